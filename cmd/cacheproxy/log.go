package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/proxy"
)

// newLogger returns the logger that log.format asks for. Everything is written to one stream, standard error, start lines and
// the access log alike, so that the order of what happened is kept; standard output is for data, of which serve has none.
// Lines of the access log have msg=request.
func newLogger(c config.Log, w io.Writer) *slog.Logger {
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}

// takeStandardLog has what libraries print with package log, net/http's client among them, come out as lines of handler. It is for the
// whole process.
func takeStandardLog(handler slog.Handler) {
	log.SetFlags(0)
	log.SetOutput(withoutExcerpts{slog.NewLogLogger(handler, slog.LevelWarn).Writer()})
}

// withoutExcerpts leaves out what net/http quotes of bytes that an upstream sent beyond its response: they may be somebody's response.
type withoutExcerpts struct{ w io.Writer }

var excerpt = regexp.MustCompile(` starting with "(?:[^"\\]|\\.)*"`)

// Write takes one message, as package log hands it over.
func (e withoutExcerpts) Write(p []byte) (int, error) {
	if _, err := e.w.Write(excerpt.ReplaceAll(p, nil)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// accessLog writes a line for each request, or for a share of them, and shows each to those who follow the feed.
type accessLog struct {
	log    *slog.Logger
	feed   *admin.Feed // nil without an operator's listener
	config config.Access
	redact redaction
	chance func() float64 // in [0, 1)
}

func newAccessLog(c config.Log, log *slog.Logger, feed *admin.Feed) *accessLog {
	return &accessLog{log: log, feed: feed, config: c.Access, redact: newRedaction(c.Redact), chance: rand.Float64}
}

// hook returns what proxy.Options.AccessLog calls; nil when no request is ever logged or shown.
func (l *accessLog) hook() func(*proxy.Access) {
	if l.feed == nil && l.config.Sample == 0 && l.config.Hits == 0 {
		return nil
	}
	return l.request
}

// wants is proxy.Options.Logs.
func (l *accessLog) wants(hit bool) bool { return l.share(hit) > 0 || l.feed.Wants(hit) }

// share is how many of the hits, or of the others, are logged.
func (l *accessLog) share(hit bool) float64 {
	if hit {
		return l.config.Hits
	}
	return l.config.Sample
}

// drawn decides whether a request is among those that are logged.
func (l *accessLog) drawn(hit bool) bool {
	share := l.share(hit)
	return share > 0 && (share >= 1 || l.chance() < share)
}

func (l *accessLog) request(a *proxy.Access) {
	logged, shown := l.drawn(a.Outcome.Hit), l.feed.Wants(a.Outcome.Hit)
	if !logged && !shown {
		return
	}
	target := l.target(a.Request)
	d := drafts.Get().(*draft)
	defer d.giveBack()
	var level slog.Level
	level, d.attributes = l.line(d.attributes[:0], a, target)
	if logged {
		l.log.LogAttrs(a.Request.Context(), level, "request", d.attributes...)
	}
	if shown {
		l.feed.Publish(a.Outcome.Hit, func() *admin.Passed { return passed(a, target) }, func() []byte { return d.encode(level) })
	}
}

// passed is what those who follow the feed choose by. It has the redacted target: a filter must not find out what is hidden.
func passed(a *proxy.Access, target string) *admin.Passed {
	return &admin.Passed{
		Hit: a.Outcome.Hit, Outcome: a.Outcome.Label(), Detail: a.Outcome.Detail.String(), Method: a.Request.Method, URL: a.Request.Host + target,
		Status: a.Status, Client: a.Client, Tier: a.Tier.String(), Duration: a.Duration,
	}
}

// A draft is the memory that a line is made in.
type draft struct {
	attributes []slog.Attr
	text       bytes.Buffer
	handler    *slog.JSONHandler // to text
}

// drafts lends them: a miss would pay more for its line than for its key.
var drafts = sync.Pool{New: func() any {
	d := &draft{attributes: make([]slog.Attr, 0, 20)}
	d.handler = slog.NewJSONHandler(&d.text, nil)
	return d
}}

func (d *draft) giveBack() {
	clear(d.attributes) // nothing of the request is kept alive
	if d.text.Cap() <= 4<<10 {
		drafts.Put(d)
	}
}

// encode makes the line that the log has in JSON, whatever log.format is.
func (d *draft) encode(level slog.Level) []byte {
	d.text.Reset()
	record := slog.NewRecord(time.Now(), level, "request", 0)
	record.AddAttrs(d.attributes...)
	_ = d.handler.Handle(context.Background(), record) // into memory: cannot fail
	return bytes.Clone(bytes.TrimSuffix(d.text.Bytes(), []byte("\n")))
}

// line appends what the access log says of a request.
func (l *accessLog) line(attributes []slog.Attr, a *proxy.Access, target string) (slog.Level, []slog.Attr) {
	attributes = append(attributes,
		slog.String("method", a.Request.Method),
		slog.String("host", a.Request.Host),
		slog.String("target", target),
		slog.String("proto", a.Request.Proto),
		slog.Int("status", a.Status),
		slog.Int64("bytes", a.Bytes),
		slog.Float64("ms", float64(a.Duration.Microseconds())/1000),
		slog.String("outcome", a.Outcome.Label()),
		slog.String("tier", a.Tier.String()),
		slog.Bool("stored", a.Outcome.Stored),
		slog.String("site", a.Site),
	)
	if a.Client.IsValid() { // the peer of a unix socket has no address
		attributes = append(attributes, slog.String("client", a.Client.String()))
	}
	if a.Rule >= 0 {
		attributes = append(attributes, slog.Int("rule", a.Rule))
	}
	if detail := a.Outcome.Detail.String(); detail != "" {
		attributes = append(attributes, slog.String("detail", detail))
	}
	if a.Limit != "" {
		attributes = append(attributes, slog.String("limit", a.Limit))
	}
	if agent := l.field(a.Request.Header, "User-Agent"); agent != "" {
		attributes = append(attributes, slog.String("user_agent", agent))
	}
	level := slog.LevelInfo
	if a.Err != nil {
		level = slog.LevelWarn
		attributes = append(attributes, slog.String("error", a.Err.Error()))
	}
	return level, attributes
}

// target is the path and query as the client sent them, but for the values of redacted parameters.
func (l *accessLog) target(r *http.Request) string {
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") {
		target = r.URL.RequestURI() // absolute-form: without scheme, host and user information
	}
	return l.redact.url(target)
}

func (l *accessLog) field(h http.Header, name string) string {
	value := h.Get(name)
	if value != "" && l.redact[strings.ToLower(name)] {
		return redacted
	}
	return value
}
