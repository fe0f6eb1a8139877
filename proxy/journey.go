package proxy

import (
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"cacheproxy/limiter"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/store"
)

// journey is one request on its way. It is made when the request comes, its fields are filled by the steps in their order,
// and its methods are the hooks of the request's own ReverseProxy. It belongs to the goroutine that serves the request: what
// outlives that (a fill) gets copies.
type journey struct {
	h     *Handler
	w     http.ResponseWriter
	r     *http.Request
	start time.Time

	// client
	peer    netip.Addr // who is connected to us
	addr    netip.Addr // who is asking
	trusted bool       // the peer's forwarding fields are believed
	scheme  string

	// rule
	site    *policy.Site
	matched *policy.Rule // by its request part
	in      policy.MatchInput

	// session and limit
	sessionFields map[string]string
	held          *limiter.Reservation // what the limits of the rule say; nil without any

	// outbound and key
	rq       policy.Request // as it would be forwarded
	host     string         // the Host field as it will be forwarded, which is what the key has
	rawPath  string         // the path's bytes as they will be forwarded
	opaque   bool           // rawPath must travel in URL.Opaque, because net/url would write it differently
	query    string
	forwards string // what Max-Forwards becomes; "" = what it is
	cacheKey policy.Key
	unstored policy.Reason // why nothing of this exchange may be stored or looked up; None = it may
	changed  bool          // rq.Header is a changed copy of r.Header

	// lookup and evaluate
	stored   *store.Entry
	tier     store.Tier
	decision policy.Decision
	stamp    store.Stamp
	nominate policy.Nomination // of the stored response, or of the newest variant of this URL when none was selected

	// what came of it
	outcome policy.Outcome
	status  int
	bytes   int64
	failure error
	out     *recorder // the writer of a fetch, which counts; nil for a hit

	// of the fetch
	open       io.Closer // the response's body
	shareClass string    // see shareKey
	rejoined   bool      // a second fill was tried because Vary kept us from the first
}

// begin takes the time and the mark against which later invalidations are compared.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request) *journey {
	j, _ := journeys.Get().(*journey)
	j.h, j.w, j.r, j.start = h, w, r, h.opt.Now()
	return j
}

// journeys lends those that end here: what is fetched may be looked at by others afterwards, and keeps its journey.
var journeys = sync.Pool{New: func() any { return new(journey) }}

// giveBack ends the life of a journey that nobody else has seen.
func (j *journey) giveBack() {
	if j.out == nil {
		*j = journey{}
		journeys.Put(j)
	}
}

// end says what came of the request: to the limiter, the ranking, the metrics and the access log.
func (j *journey) end() {
	defer j.giveBack()
	h := j.h
	if j.out != nil {
		j.status, j.bytes = j.out.status, j.out.bytes
	}
	if h.opt.Ranking != nil && j.cacheKey.URL != "" && j.r.Method != methodPurge {
		h.opt.Ranking.Asked(j.cacheKey.URL)
	}
	if j.held != nil {
		defer j.settleLimits() // the access log names the limit
	}
	if h.opt.Metrics == nil && h.opt.AccessLog == nil {
		return
	}
	took := h.opt.Now().Sub(j.start)
	h.observers.observe(j.outcome, j.tier, took)
	if h.opt.AccessLog != nil && (h.opt.Logs == nil || h.opt.Logs(j.outcome.Hit)) {
		h.opt.AccessLog(j.access(took))
	}
}

// next is the round tripper of the journey's site.
func (j *journey) next() http.RoundTripper {
	if j.h.opt.Route != nil {
		if rt := j.h.opt.Route(j.site); rt != nil {
			return rt
		}
	}
	return j.h.opt.Next
}

// Access is one line of the access log.
type Access struct {
	Request  *http.Request // as received; only to be read
	Start    time.Time
	Duration time.Duration
	Client   netip.Addr
	Status   int // 0: the connection ended before a status was sent
	Bytes    int64
	Outcome  policy.Outcome
	Tier     store.Tier
	Site     string
	Rule     int    // index of the rule that matched the request; -1 = none
	Key      string // cache URL; "" where none was made
	Limit    string // the name of the limit that refused it; "" = none did
	Err      error  // why the upstream gave no usable response, or not all of it
}

func (j *journey) access(took time.Duration) *Access {
	limit := ""
	if j.held != nil {
		limit = j.held.Limit()
	}
	return &Access{
		Request: j.r, Start: j.start, Duration: took, Client: j.addr, Status: j.status, Bytes: j.bytes, Outcome: j.outcome,
		Tier: j.tier, Site: j.site.Name, Rule: j.matched.Index, Key: j.cacheKey.URL, Limit: limit, Err: j.failure,
	}
}

// observers holds the resolved metric of every outcome and tier, so that a hit looks up no labels.
type observers struct {
	byTier [3]map[string]*metrics.RequestObserver
}

func newObservers(m *metrics.Metrics) observers {
	var o observers
	if m == nil {
		return o
	}
	for tier := range o.byTier {
		o.byTier[tier] = make(map[string]*metrics.RequestObserver)
		for _, label := range policy.Labels() {
			o.byTier[tier][label] = m.Requests(label, store.Tier(tier).String())
		}
	}
	return o
}

func (o *observers) observe(out policy.Outcome, tier store.Tier, took time.Duration) {
	if ob := o.byTier[tier][out.Label()]; ob != nil {
		ob.Observe(took)
	}
}
