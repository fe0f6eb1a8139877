package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/store"
	"cacheproxy/upstream"
)

// exchange is one request to upstream and all that is needed to decide, without the client, what its response means for the
// stored ones. A fill and a journey that goes alone each have one.
type exchange struct {
	h      *Handler
	next   http.RoundTripper
	site   *policy.Site
	rule   *policy.Rule // that matched the request
	in     policy.MatchInput
	rq     policy.Request
	scheme string
	host   string
	target *url.URL // as received
	path   string   // as forwarded
	key    policy.Key
	stamp  store.Stamp

	upgrades    bool          // the request asks for another protocol
	unstored    policy.Reason // why nothing of this exchange may be stored
	stored      *store.Entry  // the stored response that this exchange validates, completes, or falls back on
	conditional bool          // the request carries the stored response's validators
	renewed     bool          // the stamp is of after the own purges of an unsafe request, which was sent at began
	began       store.Stamp
	own         []invalidation.Seq // those purges
	completing  bool               // the request asks for what the stored partial response lacks
}

// exchange copies from the journey what the exchange needs.
func (j *journey) exchange() exchange {
	stamp := j.stamp
	if !lookedUp(j.r.Method) {
		stamp = j.h.opt.Store.Mark()
	}
	return exchange{
		h: j.h, next: j.next(), site: j.site, rule: j.matched, in: j.in, rq: j.rq, scheme: j.scheme, host: j.host,
		target: j.r.URL, path: j.keyPath(), key: j.cacheKey, stamp: stamp, unstored: j.unstored, stored: j.stored,
		upgrades: asksForUpgrade(j.r),
	}
}

// answer is what came of an exchange: a response to stream, or a stored response to serve, or an error.
type answer struct {
	res    *http.Response
	plan   *plan         // how the streamed response is stored when its body has ended well; nil = it is not
	reason policy.Reason // why the streamed response is not stored, or why the stored one is served
	shared bool          // the streamed response may answer others who asked for the same meanwhile

	entry    *store.Entry // serve this one
	status   int          // what upstream said when entry is served instead; 0 = nothing
	saved    bool         // entry has been stored anew
	personal bool         // entry answers only the one whose request was sent

	err error
}

// do sends the request and decides.
func (x *exchange) do(out *http.Request) answer {
	sent := x.h.opt.Now()
	res, err := x.next.RoundTrip(out)
	if err != nil {
		return x.failed(err)
	}
	got := x.h.opt.Now()
	if !x.expects(res) {
		_ = res.Body.Close()
		x.h.opt.Metrics.UpstreamError(upstream.HTTPProtocolError.String())
		return x.failed(&upstream.Error{Cause: upstream.HTTPProtocolError, Err: fmt.Errorf("status %d is no answer to the request", res.StatusCode)})
	}
	if x.missesThePoint(res) {
		discard(res)
		x.conditional, x.completing = false, false
		again := out.Clone(out.Context())
		policy.ClearConditionals(again.Header)
		return x.do(again)
	}
	return x.receive(res, sent, got)
}

// expects reports whether the status can end this exchange: a final one that can be passed on, or the switch to the protocol that was
// asked for.
func (x *exchange) expects(res *http.Response) bool {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return x.upgrades && isUpgrade(res.Header) && strings.EqualFold(res.Header.Get("Upgrade"), x.in.Header.Get("Upgrade"))
	}
	return res.StatusCode >= 200 && res.StatusCode <= 999
}

// missesThePoint reports whether the response answers a question of ours that we can do nothing with: a 304 that validates
// something we do not have (RFC 9111 section 4.3.4), or a part that does not continue the stored one. Then the request is made
// again without the question.
func (x *exchange) missesThePoint(res *http.Response) bool {
	switch {
	case x.conditional:
		return res.StatusCode == http.StatusNotModified && !policy.Freshens(x.stored.Header(), res.Header)
	case x.completing:
		return res.StatusCode == http.StatusRequestedRangeNotSatisfiable ||
			res.StatusCode == http.StatusPartialContent && !x.continues(res)
	}
	return false
}

// discard closes a body that is not wanted. A short one is read first, so that the connection can be used again; one whose end is
// not known is not waited for.
func discard(res *http.Response) {
	if n := res.ContentLength; n >= 0 && n <= 4<<10 {
		_, _ = io.CopyN(io.Discard, res.Body, n+1)
	}
	_ = res.Body.Close()
}

// failed: no response at all. A stored one may be served stale (RFC 5861 section 4).
func (x *exchange) failed(err error) answer {
	if x.mayServeStale() {
		return answer{entry: x.stored, reason: policy.ServedIfError, err: err}
	}
	return answer{err: err}
}

func (x *exchange) mayServeStale() bool {
	if x.stored == nil || !lookedUp(x.rq.Method) || !x.h.covers(x.rq, x.stored) {
		return false
	}
	return policy.MayServeIfError(x.rq.Directives, x.stored.Freshness(), x.h.opt.Now(), x.rule)
}

// staleStatus: the statuses that RFC 5861 section 4 counts as errors.
func staleStatus(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// receive decides what a response means, in this order: it may switch protocols, make stored responses doubtful, freshen one,
// be an error that a stale one hides, complete a partial one; otherwise it is a response of its own.
func (x *exchange) receive(res *http.Response, sent, got time.Time) answer {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return answer{res: res, reason: policy.Upgrade}
	}
	policy.RemoveHopByHop(res.Header)
	if policy.Invalidates(x.rq.Method, res.StatusCode) {
		x.invalidate(res)
	}
	switch {
	case res.StatusCode == http.StatusNotModified && x.conditional:
		return x.freshen(res, sent, got)
	case staleStatus(res.StatusCode) && x.mayServeStale():
		discard(res)
		return answer{entry: x.stored, status: res.StatusCode, reason: policy.ServedIfError}
	case x.rq.Method == http.MethodHead && x.stored != nil:
		x.applyHead(res, sent, got)
	case x.completing && res.StatusCode == http.StatusPartialContent:
		x.complete(res)
	}
	p, why := x.plan(res, sent, got)
	if p == nil {
		x.refused(why)
		return answer{res: res, reason: why}
	}
	return answer{res: res, plan: p, shared: p.shared(got)}
}

// responseRule is the rule that governs a response: the first whose request and response parts match.
func (x *exchange) responseRule(status int, h http.Header) *policy.Rule {
	return x.site.ResponseRule(&x.in, status, h.Get("Content-Type"))
}

// freshen updates the stored response with what a 304 says of it (RFC 9111 section 4.3.4), and serves it. When the update
// makes it something that may not be stored, it answers this one request and is forgotten, unless it is the request that says so.
func (x *exchange) freshen(res *http.Response, sent, got time.Time) answer {
	discard(res)
	updated, why := x.update(res.Header, sent, got)
	if updated == nil {
		return answer{entry: x.stored, status: res.StatusCode, reason: why}
	}
	if why != policy.None {
		if !x.saysRequest(why, updated) {
			x.h.opt.Store.ForgetEntry(x.stored)
		}
		x.refused(why)
		return answer{entry: updated, status: res.StatusCode, reason: why, personal: true}
	}
	if x.h.opt.Store.PurgedSince(x.stored, x.stamp) { // by a tag, say, that the 304 has taken from it: the purge would not find it any more
		x.refused(policy.Stale)
		return answer{entry: updated, status: res.StatusCode, reason: policy.Stale, personal: true}
	}
	if why = x.h.opt.Store.SaveSince(updated, x.stamp); why == policy.None {
		x.settled(why)
	}
	return answer{entry: updated, status: res.StatusCode, reason: why, saved: why == policy.None}
}

// saysRequest reports whether a reason for not storing what a 304 has freshened is about who asks and how, so that it says nothing of
// what others were given. Vary is such a reason where it is the one with which the response was stored.
func (x *exchange) saysRequest(why policy.Reason, updated *store.Entry) bool {
	switch why {
	case policy.RequestNoStore, policy.Authorization, policy.CookieHeuristic:
		return true
	case policy.VaryStar:
		return policy.ParseVary(updated.Header()) == x.stored.Nomination()
	}
	return false
}

// update makes the freshened form of the stored response. The reason says why it may not be stored.
func (x *exchange) update(fields http.Header, sent, got time.Time) (*store.Entry, policy.Reason) {
	kind := fields
	if kind.Get("Content-Type") == "" { // as a 304 should leave it
		kind = x.stored.Header()
	}
	rule := x.responseRule(x.stored.Status(), kind)
	rs := policy.Response{Status: x.stored.Status(), Header: fields, RequestTime: sent, ResponseTime: got}
	rq := x.rq
	rq.Method = http.MethodGet
	header, fresh, why := policy.Refreshed(rq, x.stored.Status(), x.stored.Header(), rs, rule, x.key.URL, x.h.policy)
	d := x.stored.Redraft()
	d.Header, d.ResponseTime = header, got
	d.ValidatedSince(x.stamp)
	if why == policy.None {
		d.Freshness = fresh
		d.KeepUntil = got.Add(fresh.Retention(got, x.h.opt.Cache.Keep))
	} else {
		d.Header = policy.Freshen(x.stored.Header(), fields, rule, x.h.policy, got)
		d.Freshness.Born, d.Freshness.Lifetime = got, 0
	}
	d.Tags = x.tags(rule, d.Header, d.Header)
	if d.Nomination = policy.ParseVary(d.Header); d.Nomination == policy.NominationStar {
		d.Nomination = ""
	}
	d.Selection = d.Nomination.AppendSelection(nil, x.rq.Header)
	e, err := store.NewEntry(d)
	if err != nil {
		return nil, policy.TooLarge
	}
	return e, why
}

// applyHead lets the response to a HEAD freshen or invalidate the stored response to GET (RFC 9111 section 4.3.5).
func (x *exchange) applyHead(res *http.Response, sent, got time.Time) {
	switch policy.HeadUpdates(x.stored.Status(), x.stored.Header(), res.StatusCode, res.Header) {
	case policy.HeadFreshens:
		if e, why := x.update(res.Header, sent, got); e != nil && why == policy.None && !x.h.opt.Store.PurgedSince(x.stored, x.stamp) {
			x.h.opt.Store.SaveSince(e, x.stamp)
		}
	case policy.HeadInvalidates:
		x.h.opt.Store.ForgetEntry(x.stored)
	}
}

// invalidate forgets what an unsafe request that succeeded has made doubtful (RFC 9111 section 4.4): the target and, on the same
// origin, what Location and Content-Location name; here at once, and everywhere (spread), with the groups of RFC 9875. The stamp is
// renewed: what this very response says may be stored, and then answers a GET (RFC 9110 section 9.3.3): so it is not where another rule
// governs GET, by which another query, other fields or another session would have been forwarded and be part of the key; nor where
// somebody else has purged it since the request was sent (plan).
func (x *exchange) invalidate(res *http.Response) {
	s := x.h.opt.Store
	cacheURL, rule := x.h.getURL(x.scheme, x.host, x.path, x.target.RawQuery, x.in)
	urls := []string{cacheURL}
	if x.unstored == policy.None && rule != x.rule {
		x.unstored = policy.MethodNotStored // what was forwarded is not what would have been for GET
	}
	target := *x.target
	target.Scheme, target.Host = x.scheme, x.host
	for _, u := range policy.InvalidatedTargets(&target, res.Header) {
		path, _ := policy.CleanPath(u)
		in := policy.MatchInput{Path: path, RawQuery: u.RawQuery, Header: x.in.Header}
		cacheURL, _ = x.h.getURL(u.Scheme, u.Host, u.EscapedPath(), u.RawQuery, in)
		urls = append(urls, cacheURL)
		if raw := pathAsWritten(u, res.Header); raw != "" {
			cacheURL, _ = x.h.getURL(u.Scheme, u.Host, raw, u.RawQuery, in)
			urls = append(urls, cacheURL)
		}
	}
	if x.unstored == policy.None && !s.Current(urls[0], x.stamp) {
		x.unstored = policy.Stale // another one has changed it meanwhile
	}
	for _, url := range urls {
		s.Forget(url)
	}
	x.own = x.h.spread("response to "+x.rq.Method, doubtful(urls, res.Header))
	x.renewed, x.began, x.stamp = true, x.stamp, s.Mark()
}

// pathAsWritten is the path of u as Location or Content-Location has it, where net/url would write it differently; else "". A client
// that is sent there asks for either (see target).
func pathAsWritten(u *url.URL, h http.Header) string {
	for _, name := range [...]string{"Location", "Content-Location"} {
		for _, v := range h[name] {
			path, _, _ := strings.Cut(v, "#")
			path, _, _ = strings.Cut(path, "?")
			if scheme, rest, found := strings.Cut(path, "//"); found && !strings.Contains(scheme, "/") {
				path = rest[max(0, strings.IndexByte(rest, '/')):]
			}
			if strings.HasPrefix(path, "/") && path != u.EscapedPath() && stillSays(path, u.Path) {
				return path
			}
		}
	}
	return ""
}

// getURL is the cache URL under which the response to a GET of this target is kept, and the rule for such a request.
func (h *Handler) getURL(scheme, host, path, query string, in policy.MatchInput) (string, *policy.Rule) {
	in.Method = http.MethodGet
	rule := h.opt.Sites.Find(host).RequestRule(&in)
	return rule.Key.Key(scheme, host, path, rule.Key.ForwardQuery(query), in.Header, nil).URL, rule
}

// refused counts what was not done, mostly a response that was not stored.
func (h *Handler) refused(why policy.Reason) {
	h.opt.Metrics.Refusal(why.String())
}

// refused counts a response that is not stored, and remembers why.
func (x *exchange) refused(why policy.Reason) {
	x.h.refused(why)
	x.h.verdicts.note(x.key, &x.rq, verdict{why, x.h.opt.Now()})
}

// settled records how storing a response has ended; None means well.
func (x *exchange) settled(why policy.Reason) {
	if why != policy.None {
		x.refused(why)
		return
	}
	x.h.verdicts.drop(x.key, &x.rq)
}
