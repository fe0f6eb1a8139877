// Package proxy is one request's journey through a shared HTTP cache, as an http.Handler.
//
// Handler.ServeHTTP reads as the list of its steps, each in the file of that name:
//
//	client    who is it: the remote address, or a forwarding field that a trusted peer wrote   client.go
//	rule      which site and which rule govern it                                               rule.go
//	purge     a PURGE ends here                                                                  purge.go
//	session   who is asking, where the rule wants to know (a hook)                               admission.go
//	limit     may they ask now                                                                   admission.go
//	outbound  the request as it would be forwarded: what is not the client's to say is gone      outbound.go
//	key       under which cache URL the response is kept, made from what would be forwarded      outbound.go
//	lookup    near memory, then Redis; Vary selects the stored response                          lookup.go
//	evaluate  may it be used: policy.Evaluate                                                    lookup.go
//	serve     200, 206 or 304 from the stored response, with Age and Cache-Status                serve.go, ranges.go
//	fetch     httputil.ReverseProxy, whose Transport is the journey itself                       fetch.go
//
// A fetch goes one of two ways. Alone (alone.go): the response streams to the one client that asked, and a copy of it may be
// kept. Or through a fill (share.go, fill.go, fills.go, pull.go, reader.go): one upstream request, detached from the client that caused it, whose
// body is written once into memory and read by everybody who asked for the same thing meanwhile. What a response from
// upstream means for the stored ones - freshen, replace, serve stale instead - is decided in one place for both: exchange.go.
//
// All state of a request lives in one journey value, whose methods are the hooks of a ReverseProxy value made for that
// request. Nothing travels in context values, nothing is smuggled in header fields.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/limiter"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/store"
)

// Options configures a Handler. Only Next is required; every other zero value means what its comment says.
type Options struct {
	// Next answers what the cache cannot: an upstream.Upstream, any http.RoundTripper that chooses the server by itself, or an
	// http.Handler wrapped by FromHandler.
	Next http.RoundTripper
	// Route chooses another Next for a site; nil, or a nil result, means Next.
	Route func(*policy.Site) http.RoundTripper
	// Store keeps the responses; nil means a memory of 64 MiB that belongs to this Handler.
	Store *store.Store
	// Sites are the compiled rules; nil means none, so HTTP alone decides.
	Sites *policy.Sites

	Client   ClientOptions
	Cache    CacheOptions
	Collapse CollapseOptions

	// Limits are those that rules name; nil means that nothing is limited, whatever rules name.
	Limits *limiter.Limits
	// Sessions and Ranking are the hooks of their steps; nil means that the step is left out.
	Sessions Sessions
	Ranking  Ranking

	// Malformed is asked when a request's context has ended before it was answered: what it returns says in a sentence why the content is
	// malformed, and is answered with 400; "" means that the client has left. Nil means that clients only leave.
	Malformed func(*http.Request) string
	// Purge enters a purge in the log that all replicas follow, and waits for them no longer than ctx; what is being entered when ctx
	// ends is entered all the same. An error without a receipt says that it is not, as far as is known; the receipt may be nil.
	// It is called for PURGE requests and for what unsafe methods make doubtful. Nil means that there is no log: of those, URLs are forgotten
	// by this process and in its Redis alone, and cache groups (RFC 9875) not at all.
	Purge func(ctx context.Context, p invalidation.Purge) (*invalidation.Receipt, error)
	// PurgeWait is how long the response to an unsafe request is held back for that; default 50 ms.
	PurgeWait time.Duration
	// Doubts are what unsafe requests have made doubtful and Purge has not entered yet. They outlive a Handler that another one takes the
	// place of. Nil, where there is a log, means those of this Handler, which end with it.
	Doubts *Doubts

	Metrics *metrics.Metrics // nil: nothing is counted
	Log     *slog.Logger     // nil: slog.Default()
	// AccessLog is called once for each request when it is over; nil means no access log. The value must not be kept.
	AccessLog func(*Access)
	// Logs says, before AccessLog is called, whether it has a use for a request that was a hit, or was none, so that a hit which nobody
	// is told of costs no value. Nil means that it has a use for all.
	Logs func(hit bool) bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// ClientOptions says whose word is taken for the client's address.
type ClientOptions struct {
	Trusted []netip.Prefix // peers whose forwarding fields are believed; none by default
	Header  string         // the field they write: X-Forwarded-For (default) or Forwarded
	// IPv6Prefix is how many bits of an IPv6 address make one client; default 64.
	IPv6Prefix int
	Purge      []netip.Prefix // clients that may use the PURGE method; none by default
}

// CacheOptions bounds what is stored and says how the cache names itself.
type CacheOptions struct {
	Name        string // member name in Cache-Status, Via and Proxy-Status; default "cacheproxy"
	StatusField StatusField
	MaxObject   int64         // bytes of body stored at the most; default 64 MiB
	MaxFill     time.Duration // a fill that takes longer streams on but is not stored; default 60 s
	Keep        time.Duration // how long a stale response with a validator is kept for revalidation; default 1 h, negative = not at all
	NoHeuristic bool          // never guess a freshness lifetime
	Targets     []string      // targeted Cache-Control fields (RFC 9213), most specific first; default Cacheproxy-Cache-Control, CDN-Cache-Control
	TagHeaders  []string      // response fields that name tags; default policy.DefaultTagFields, empty but not nil = none
	TagFields   TagPolicy     // who is sent these and Cache-Groups; default TagStrip
	MaxRanges   int           // ranges answered in one response; more are answered with the whole; default 16
}

// TagPolicy says who is sent the response fields that name tags and groups.
type TagPolicy string

// The values of cache.tag_fields.
const (
	TagStrip TagPolicy = "strip" // trusted peers alone (default)
	TagKeep  TagPolicy = "keep"  // everybody
)

// StatusField says who is told the Cache-Status field.
type StatusField string

// The values of cache.status_field.
const (
	StatusAlways  StatusField = "always" // everybody (default)
	StatusTrusted StatusField = "trusted"
	StatusNever   StatusField = "never"
)

// CollapseOptions bounds the fills.
type CollapseOptions struct {
	Memory       int64         // bytes of bodies in all fills together; default 256 MiB
	Window       int64         // bytes that a body too large to store may run ahead of its slowest reader; default 4 MiB
	Patience     time.Duration // how long the slowest of several readers may hold such a body back; default 1 s
	NotShareable time.Duration // how long a key is remembered as not shareable; default 10 s
	MaxRefreshes int           // concurrent background refreshes (stale-while-revalidate); default 64
}

// Handler is the cache as an http.Handler. It is safe for concurrent use and must be closed.
type Handler struct {
	opt       Options
	policy    policy.StoreOptions
	tagFields policy.TagFields
	ownStore  bool
	ownDoubts bool
	fills     *fills
	refreshes chan struct{} // a slot for each background refresh under way
	observers observers
	alone     notShareable
	verdicts  verdicts
	limits    map[*policy.Rule]*ruleLimits // of the rules that name some
	via       viaNames
	errorLog  *log.Logger // of the ReverseProxy values

	leaving context.Context // done when Leave was called
	leave   context.CancelFunc
	stop    context.Context // done when Close begins: ends upgraded connections and background work
	cancel  context.CancelFunc
	work    sync.WaitGroup // background refreshes
}

// New builds a Handler.
func New(o Options) (*Handler, error) {
	if o.Next == nil {
		return nil, errors.New("proxy: Options.Next is nil: nothing can answer a miss")
	}
	setDefaults(&o)
	h := &Handler{
		opt:       o,
		policy:    policy.StoreOptions{Targets: o.Cache.Targets, Heuristic: !o.Cache.NoHeuristic},
		refreshes: make(chan struct{}, o.Collapse.MaxRefreshes),
		observers: newObservers(o.Metrics),
		via:       newViaNames(o.Cache.Name),
		errorLog:  slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	var err error
	if h.tagFields, err = policy.NewTagFields(o.Cache.TagHeaders); err != nil {
		return nil, fmt.Errorf("proxy: Options.Cache.TagHeaders (`cache.tag_headers`): %w", err)
	}
	if h.limits, err = limitsOf(o.Sites, o.Limits); err != nil {
		return nil, err
	}
	if o.Doubts == nil && o.Purge != nil {
		h.opt.Doubts = NewDoubts(DoubtsOptions{Purge: o.Purge, Wait: o.PurgeWait, Metrics: o.Metrics, Log: o.Log})
		h.ownDoubts = true
	}
	h.alone.now, h.alone.epoch = o.Now, o.Now()
	h.fills = newFills(h)
	if h.opt.Store == nil {
		s, err := store.New(store.Options{NearSize: 64 << 20, Metrics: o.Metrics, Log: o.Log, Now: o.Now})
		if err != nil {
			return nil, err
		}
		h.opt.Store, h.ownStore = s, true
	}
	h.leaving, h.leave = context.WithCancel(context.Background())
	h.stop, h.cancel = context.WithCancel(context.Background())
	return h, nil
}

func setDefaults(o *Options) {
	setDefault(&o.Log, slog.Default())
	setDefault(&o.Client.Header, "X-Forwarded-For")
	setDefault(&o.Client.IPv6Prefix, 64)
	setDefault(&o.Cache.Name, "cacheproxy")
	setDefault(&o.Cache.StatusField, StatusAlways)
	setDefault(&o.Cache.TagFields, TagStrip)
	setDefault(&o.PurgeWait, 50*time.Millisecond)
	setDefault(&o.Cache.MaxObject, 64<<20)
	setDefault(&o.Cache.MaxFill, 60*time.Second)
	setDefault(&o.Cache.Keep, time.Hour)
	setDefault(&o.Cache.MaxRanges, 16)
	setDefault(&o.Collapse.Memory, 256<<20)
	setDefault(&o.Collapse.Window, 4<<20)
	setDefault(&o.Collapse.Patience, time.Second)
	setDefault(&o.Collapse.NotShareable, 10*time.Second)
	setDefault(&o.Collapse.MaxRefreshes, 64)
	if o.Cache.Targets == nil {
		o.Cache.Targets = []string{"Cacheproxy-Cache-Control", "Cdn-Cache-Control"}
	}
	if o.Cache.TagHeaders == nil {
		o.Cache.TagHeaders = policy.DefaultTagFields()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sites == nil {
		o.Sites, _ = policy.CompileSites(nil)
	}
}

// setDefault gives *field the value where it is zero.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ServeHTTP takes one request through the steps that the package comment lists.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	j := h.begin(w, r)
	defer j.end()

	j.client()
	j.rule()
	if r.Method == methodPurge {
		j.purge()
		return
	}
	if !j.session() || !j.limit() {
		return
	}
	j.outbound()
	j.key()
	if !j.mayForward() {
		return
	}
	if j.lookup(); j.evaluate() {
		j.serve()
		return
	}
	j.fetch()
}

// Settle waits until the background refreshes, the purges being entered and the fetches that go on without their clients have ended, so that what they change in
// the store can be seen. No request may be under way.
func (h *Handler) Settle() {
	h.work.Wait()
	h.fills.under.Wait()
	if h.ownDoubts {
		h.opt.Doubts.settle()
	}
}

// Close ends upgraded connections, background refreshes and the fills that no client waits for, and closes the store where the
// Handler made it; ctx bounds that. No other request may be under way.
func (h *Handler) Close(ctx context.Context) error {
	h.leave()
	h.cancel()
	h.fills.abort()
	h.Settle()
	if h.ownDoubts {
		h.opt.Doubts.Close()
	}
	if h.ownStore {
		return h.opt.Store.Close(ctx)
	}
	return nil
}
