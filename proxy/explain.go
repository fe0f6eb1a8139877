package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// Explain takes a request through the steps that ServeHTTP takes it through, by the same methods, and says what came of each. It
// fetches, stores, promotes, counts, limits and logs nothing; Redis may be asked, within its timeout. The request's body is
// not read. What it says is true of this moment: other requests go on meanwhile.
//
// Sessions and limits are left out, since to ask for them is to use them; the notes say so where a rule asks for either.
func (h *Handler) Explain(r *http.Request) Explanation {
	j := &journey{h: h, w: &devNull{header: make(http.Header)}, r: r, start: h.opt.Now()}
	j.client()
	j.rule()
	e := Explanation{At: j.start.UTC(), Method: r.Method, URL: j.askedFor(), Client: j.explainClient(), Site: j.site.Name}
	if r.Method == methodPurge {
		return j.explainPurge(e)
	}
	j.outbound()
	j.key()
	e.Rule, e.Key = explainRule(j.matched), j.explainKey()
	if e.Lookup.Done = j.mayLookUp(); e.Lookup.Done {
		j.found(h.opt.Store.Peek(r.Context(), j.cacheKey, j.rq.Header))
	}
	hit := j.evaluate()
	e.Lookup = j.explainLookup(e.Lookup.Done)
	e.Stored, e.Lately = j.explainStored(), j.explainLately()
	e.Decision = j.explainDecision()
	if hit {
		e.Status = j.hitStatus()
	} else if p, refused := j.refusal(); refused {
		e.Decision.Fwd, e.Decision.ExplainedReason = "", explainReason(p.reason)
		j.outcome.Fwd = policy.FwdNone
		j.problem(p)
		e.Status = j.status
	} else {
		e.Forward = j.explainForward()
	}
	e.Outcome = j.outcome.Label()
	e.CacheStatus = string(j.said(e.Forward != nil).AppendCacheStatus(nil, h.opt.Cache.Name))
	e.Notes = j.explainNotes()
	return e
}

// said is the outcome as far as it is certain: of a request that is forwarded the detail is the upstream's response to decide (told), but
// for why there was no looking.
func (j *journey) said(forwarded bool) policy.Outcome {
	o := j.outcome
	if forwarded && j.unstored == policy.None && o.Detail != policy.StoreUnavailable {
		o.Detail = policy.None
	}
	return o
}

// askedFor is the URL of the request as it came.
func (j *journey) askedFor() string {
	target := j.r.RequestURI
	if target == "" {
		target = j.r.URL.RequestURI()
	}
	if !strings.HasPrefix(target, "/") { // absolute-form, or "*"
		return target
	}
	return j.scheme + "://" + j.r.Host + target
}

func (j *journey) explainClient() ExplainedClient {
	c := ExplainedClient{Trusted: j.trusted, Scheme: j.scheme}
	if j.peer.IsValid() {
		c.Peer, c.Address = j.peer.String(), j.addr.String()
	}
	return c
}

func explainRule(r *policy.Rule) ExplainedRule {
	return ExplainedRule{Index: r.Index, Match: r.Condition}
}

func (j *journey) explainKey() ExplainedKey {
	k := ExplainedKey{URL: j.cacheKey.URL}
	k.Dropped, k.Sorted = j.matched.Key.QueryChanges(j.r.URL.RawQuery)
	for _, part := range j.cacheKey.Parts() {
		k.Extras = append(k.Extras, ExplainedExtra{Kind: part.Kind, Name: part.Name, Values: part.Values})
	}
	return k
}

func explainReason(r policy.Reason) ExplainedReason {
	return ExplainedReason{Reason: r.String(), Section: r.Section(), Sentence: r.Sentence()}
}

func (j *journey) explainLookup(done bool) ExplainedLookup {
	l := ExplainedLookup{Done: done, Found: j.stored != nil, Tier: j.tier.String(), VaryMiss: j.outcome.Fwd == policy.FwdVaryMiss}
	switch {
	case j.unstored != policy.None:
		why := explainReason(j.unstored)
		l.Why = &why
	case !done:
		l.Why = &ExplainedReason{Section: policy.FwdMethod.Section(), Sentence: policy.FwdMethod.Sentence()}
	case j.stored == nil && j.outcome.Detail == policy.StoreUnavailable:
		why := explainReason(policy.StoreUnavailable)
		l.Why = &why
	}
	if l.VaryMiss {
		l.Varies = string(j.nominate)
	}
	return l
}

func (j *journey) explainStored() *ExplainedStored {
	e := j.stored
	if e == nil {
		return nil
	}
	f := e.Freshness()
	s := &ExplainedStored{
		Status: e.Status(), Age: Seconds(f.Age(j.start)), Lifetime: Seconds(f.Lifetime), TTL: Seconds(f.TTL(j.start)), Heuristic: f.Heuristic,
		StaleWhileRevalidate: Seconds(f.StaleWhileRevalidate), StaleIfError: Seconds(f.StaleIfError),
		NoCache: f.NoCache, MustRevalidate: f.MustRevalidate, Immutable: f.Immutable,
		ETag: e.ETag(), LastModified: e.LastModified(), Vary: string(e.Nomination()), Bytes: e.BodyLen(),
		StoredAt: e.ResponseTime().UTC(), KeepUntil: e.KeepUntil().UTC(),
	}
	s.Tags, s.Groups = policy.SplitTags(e.Tags())
	s.ContentType, _ = e.Field("Content-Type")
	if part, partial := e.Part(); partial {
		s.Partial = contentRange(part.ByteRange, part.Total)
	}
	s.Rule = explainRule(j.site.ResponseRule(&j.in, e.Status(), s.ContentType))
	return s
}

func (j *journey) explainLately() *ExplainedVerdict {
	v, known := j.h.verdicts.last(j.cacheKey, &j.rq)
	if !known || j.unstored != policy.None {
		return nil
	}
	return &ExplainedVerdict{explainReason(v.why), Seconds(j.start.Sub(v.at))}
}

// explainDecision names what evaluate has decided.
func (j *journey) explainDecision() ExplainedDecision {
	d := ExplainedDecision{Action: j.decision.Action.String(), Fwd: j.outcome.Fwd.String(), ExplainedReason: explainReason(j.outcome.Detail)}
	switch {
	case j.outcome.Hit && j.outcome.Detail == policy.None:
		d.Section, d.Sentence = "RFC 9111 section 4.2", "The stored response is fresh and answers the request."
	case j.outcome.Detail == policy.None:
		d.Section, d.Sentence = j.outcome.Fwd.Section(), j.outcome.Fwd.Sentence()
	}
	return d
}

// hitStatus is the status with which serve answers.
func (j *journey) hitStatus() int {
	e := j.stored
	if j.hasIt(e) {
		return http.StatusNotModified
	}
	if j.mayServeRanges(e) {
		switch _, result := policy.SelectRange(j.rq, e.ETag(), e.LastModified(), e.Date(), held(e).Total, j.h.opt.Cache.MaxRanges); result {
		case policy.RangeUnsatisfiable:
			return http.StatusRequestedRangeNotSatisfiable
		case policy.RangePartial:
			return http.StatusPartialContent
		}
	}
	return e.Status()
}

// explainForward makes the request that would be sent, by the ReverseProxy that would send it, and does not send it.
func (j *journey) explainForward() *ExplainedForward {
	x, sharing := j.exchange(), j.sharing()
	f := &ExplainedForward{Shared: sharing == together, Fallback: x.mayServeStale()}
	if f.Shared {
		f.UnderWay = j.h.fills.underWay(j.fillKey())
	} else {
		f.Alone = &ExplainedReason{Sentence: aloneSentences[sharing]}
	}
	switch sharing {
	case notShared:
		f.Alone.Reason, f.Alone.Section = policy.NotShareable.String(), policy.NotShareable.Section()
	case ofNoUse:
		f.Alone.Reason, f.Alone.Section = j.unstored.String(), j.unstored.Section()
	}
	rp := httputil.ReverseProxy{
		Rewrite: j.rewrite, ErrorLog: j.h.errorLog, ErrorHandler: func(http.ResponseWriter, *http.Request, error) {},
		Transport: tripper(func(out *http.Request) {
			if f.Shared {
				x.askForAll(out.Header)
			} else if j.mayAskOurs() {
				x.ask(out.Header)
			}
			f.describe(out, j.r.Header)
		}),
	}
	rp.ServeHTTP(j.w, j.r)
	f.Validates = x.conditional
	return f
}

// describe notes what the request is and how it differs from the one that came.
func (f *ExplainedForward) describe(out *http.Request, came http.Header) {
	f.Method, f.Host, f.Header = out.Method, out.Host, out.Header.Clone()
	f.Target = targetOf(out.URL)
	if f.Header.Get("User-Agent") == "" { // ReverseProxy's way to have net/http send none
		delete(f.Header, "User-Agent")
	}
	for name := range came {
		if f.Header[name] == nil {
			f.Dropped = append(f.Dropped, name)
		}
	}
	for name, values := range f.Header {
		if !slices.Equal(values, came[name]) {
			f.Added = append(f.Added, name)
		}
	}
	slices.Sort(f.Dropped)
	slices.Sort(f.Added)
}

// targetOf is the request target in origin-form.
func targetOf(u *url.URL) string {
	if u.Opaque == "" {
		return u.RequestURI()
	}
	if u.RawQuery != "" || u.ForceQuery {
		return u.Opaque + "?" + u.RawQuery
	}
	return u.Opaque
}

// errUnsent is what a request meets that is only looked at.
var errUnsent = errors.New("proxy: the request was not sent")

// tripper looks at a request and sends nothing.
type tripper func(*http.Request)

// RoundTrip implements http.RoundTripper.
func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) {
	t(r)
	return nil, errUnsent
}

func (j *journey) explainNotes() []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if j.h.limits[j.matched] != nil {
		note("The rule asks the limits %s first; this explanation does not, since asking counts.", strings.Join(j.matched.Limits, ", "))
	}
	if j.h.opt.Sessions != nil && (j.matched.RequireSession || len(j.matched.Key.Session) > 0) {
		note("The rule asks for a session; this explanation is of a request without one, since to resolve one prolongs it.")
	}
	if !j.tells() {
		note("This client is not told the Cache-Status: cache.status_field is %s.", j.h.opt.Cache.StatusField)
	}
	if j.decision.Action == policy.ServeStaleAndRevalidate {
		note("The stored response would be revalidated in the background.")
	}
	if j.stored != nil && j.tier == store.TierRedis {
		note("It is in Redis and not yet in this process's memory; a request would put it there.")
	}
	return notes
}
