// Package demo is a small origin whose pages show caching happening.
//
// Every page says when the origin made it and how many times the origin was asked for it, so that a response from the cache is
// seen to be one: the number stands still. Each page is about one thing that HTTP lets an origin say to caches; the index page
// lists them with a line to try. It keeps nothing but its counters and needs no files.
package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	_ "embed" // index.html
)

// Options configures an Origin. The zero value is the demo as users see it.
type Options struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Wait sleeps, or returns false early when ctx is done; nil means a real timer. The slow page and the events wait.
	Wait func(ctx context.Context, d time.Duration) bool
}

// Origin is the demo's http.Handler. It is safe for concurrent use.
type Origin struct {
	now  func() time.Time
	wait func(context.Context, time.Duration) bool
	mux  *http.ServeMux

	mu   sync.Mutex
	hits map[string]int // requests that reached the origin, by path
}

// page is one line of the index.
type page struct {
	Path    string
	Says    string // the field that matters
	Shows   string
	handler func(o *Origin, w http.ResponseWriter, r *http.Request, hit int)
}

var pages = []page{
	{"/clock", "Cache-Control: max-age=10, ETag", "The time, kept for ten seconds. Ask twice: the second answer is a hit with an Age.", (*Origin).clock},
	{"/slow", "Cache-Control: max-age=30", "Two seconds until the head comes. Ask many times at once: the origin is asked once, everybody gets the answer.", (*Origin).slow},
	{"/logo", "Cache-Control: max-age=5, ETag that never changes", "After five seconds it is validated, not fetched: the origin answers 304 without a body.", (*Origin).logo},
	{"/swr", "Cache-Control: max-age=5, stale-while-revalidate=60", "Once stale, it is still served at once, while a fresh copy is fetched behind your back.", (*Origin).swr},
	{"/flaky", "Cache-Control: max-age=2, stale-if-error=300", "Every second answer of the origin is a 503. Once stored, you never see one.", (*Origin).flaky},
	{"/vary", "Cache-Control: max-age=60, Vary: Accept-Language", "One stored response for each language: try -H 'Accept-Language: fr'.", (*Origin).vary},
	{"/tagged", "Cache-Control: max-age=300, Surrogate-Key: demo product-1", "Stored with the tags demo and product-1.", (*Origin).tagged},
	{"/private", "Cache-Control: private, Set-Cookie", "For you alone: never stored, the number rises each time.", (*Origin).private},
	{"/counter", "Cache-Control: no-store", "How often the origin was asked for each page, as JSON.", (*Origin).counter},
	{"/events", "Content-Type: text/event-stream", "Server-sent events, one a second, passed on as they come: use curl -N.", (*Origin).events},
}

// New returns an Origin.
func New(opt Options) *Origin {
	o := &Origin{now: opt.Now, wait: opt.Wait, mux: http.NewServeMux(), hits: map[string]int{}}
	if o.now == nil {
		o.now = time.Now
	}
	if o.wait == nil {
		o.wait = wait
	}
	for _, p := range pages {
		o.mux.HandleFunc("GET "+p.Path, func(w http.ResponseWriter, r *http.Request) {
			p.handler(o, w, r, o.count(p.Path))
		})
	}
	o.mux.HandleFunc("GET /{$}", o.index)
	return o
}

// ServeHTTP answers one request.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) { o.mux.ServeHTTP(w, r) }

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (o *Origin) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hits[path]++
	return o.hits[path]
}

// text writes a plain page: what it says, when it was made and how often the origin was asked.
func (o *Origin) text(w http.ResponseWriter, hit int, format string, args ...any) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, format+"\nmade by the origin at %s, request %d for this page\n",
		append(args, o.now().UTC().Format(time.TimeOnly), hit)...)
}

func (o *Origin) clock(w http.ResponseWriter, _ *http.Request, hit int) {
	w.Header().Set("Cache-Control", "max-age=10")
	w.Header().Set("ETag", fmt.Sprintf(`"clock-%d"`, o.now().UnixNano()))
	o.text(w, hit, "It is %s UTC.", o.now().UTC().Format(time.TimeOnly))
}

func (o *Origin) slow(w http.ResponseWriter, r *http.Request, hit int) {
	if !o.wait(r.Context(), 2*time.Second) {
		return
	}
	w.Header().Set("Cache-Control", "max-age=30")
	o.text(w, hit, "This took two seconds.")
}

func (o *Origin) logo(w http.ResponseWriter, r *http.Request, _ int) {
	const tag = `"logo-1"`
	w.Header().Set("Cache-Control", "max-age=5")
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	fmt.Fprintln(w, `<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><circle cx="32" cy="32" r="30" fill="#2a6f97"/></svg>`)
}

func (o *Origin) swr(w http.ResponseWriter, _ *http.Request, hit int) {
	w.Header().Set("Cache-Control", "max-age=5, stale-while-revalidate=60")
	o.text(w, hit, "Fresh for five seconds, then served stale for a minute while it is renewed.")
}

func (o *Origin) flaky(w http.ResponseWriter, _ *http.Request, hit int) {
	if hit%2 == 0 {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "the origin is out of order", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Cache-Control", "max-age=2, stale-if-error=300")
	o.text(w, hit, "The origin works, this time.")
}

var greetings = map[string]string{"en": "Good day.", "de": "Guten Tag.", "fr": "Bonjour.", "es": "Buenos días."}

func (o *Origin) vary(w http.ResponseWriter, r *http.Request, hit int) {
	language := strings.ToLower(strings.TrimSpace(r.Header.Get("Accept-Language")))
	if len(language) > 2 {
		language = language[:2]
	}
	if greetings[language] == "" {
		language = "en"
	}
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Vary", "Accept-Language")
	w.Header().Set("Content-Language", language)
	o.text(w, hit, "%s", greetings[language])
}

func (o *Origin) tagged(w http.ResponseWriter, _ *http.Request, hit int) {
	w.Header().Set("Cache-Control", "max-age=300")
	w.Header().Set("Surrogate-Key", "demo product-1")
	o.text(w, hit, "Product 1, tagged demo and product-1.")
}

func (o *Origin) private(w http.ResponseWriter, _ *http.Request, hit int) {
	w.Header().Set("Cache-Control", "private, max-age=60")
	http.SetCookie(w, &http.Cookie{Name: "demo", Value: fmt.Sprint(hit), HttpOnly: true, SameSite: http.SameSiteLaxMode})
	o.text(w, hit, "This is for you alone.")
}

func (o *Origin) counter(w http.ResponseWriter, _ *http.Request, _ int) {
	o.mu.Lock()
	text, err := json.MarshalIndent(o.hits, "", "  ")
	o.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "%s\n", text)
}

// events sends one event a second until the client leaves.
func (o *Origin) events(w http.ResponseWriter, r *http.Request, _ int) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	control := http.NewResponseController(w)
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: it is %s UTC\n\n", n, o.now().UTC().Format(time.TimeOnly)); err != nil {
			return
		}
		if control.Flush() != nil || !o.wait(r.Context(), time.Second) {
			return
		}
	}
}

//go:embed index.html
var indexText string

var indexTemplate = template.Must(template.New("index").Parse(indexText))

func (o *Origin) index(w http.ResponseWriter, r *http.Request) {
	data := struct {
		Host  string
		Pages []page
		Made  string
		Hit   int
	}{r.Host, pages, o.now().UTC().Format(time.TimeOnly), o.count("/")}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=10")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'")
	if err := indexTemplate.Execute(w, data); err != nil {
		panic(http.ErrAbortHandler) // the client has left in the middle of the page
	}
}
