package proxy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// plan is how a response is stored once its body has ended well. It is made when the head is there and every rule that looks at
// heads has said yes; what only the body can tell (its length, its end, how long it took) is judged by keep.
type plan struct {
	x          *exchange
	status     int
	header     http.Header
	fresh      policy.Freshness
	nomination policy.Nomination
	selection  []byte
	tags       []string
	compress   policy.Compression
	got        time.Time
	limit      int64 // bytes of body that are held at the most
	most       int64 // bytes of body at the most: what is longer than limit is uploaded as it comes
	partial    bool
	fill       uint64 // names the fetch to the store when its body is uploaded
}

// plan decides whether and how a response is stored.
func (x *exchange) plan(res *http.Response, sent, got time.Time) (*plan, policy.Reason) {
	if x.unstored != policy.None {
		stripCookies(x.rule, res.Header)
		return nil, x.unstored
	}
	rule := x.responseRule(res.StatusCode, res.Header)
	stripCookies(rule, res.Header)
	rs := policy.Response{Status: res.StatusCode, Header: res.Header, RequestTime: sent, ResponseTime: got}
	fresh, why := policy.Storable(x.rq, rs, rule, x.key.URL, x.h.policy)
	if why != policy.None {
		return nil, why
	}
	p := &plan{x: x, status: res.StatusCode, fresh: fresh, got: got}
	p.limit, p.most = x.limits(rule, res.StatusCode)
	if res.ContentLength > p.most {
		return nil, policy.TooLarge
	}
	if res.ContentLength > p.limit && !x.h.opt.Store.CanUpload() {
		return nil, policy.StoreUnavailable
	}
	if fresh.Retention(got, x.h.opt.Cache.Keep) <= 0 {
		return nil, policy.NoFreshness
	}
	p.nomination = policy.ParseVary(res.Header)
	var selection [256]byte
	p.selection = bytes.Clone(p.nomination.AppendSelection(selection[:0], x.rq.Header))
	p.header = policy.StoredHeader(rs, rule, x.h.policy)
	if res.ContentLength >= 0 && bodyAllowed(p.status) && p.status != http.StatusPartialContent {
		setLength(p.header, res.ContentLength)
	}
	if res.Header["Content-Encoding"] == nil {
		p.compress = rule.Compress
	}
	p.tags = x.tags(rule, p.header, res.Header)
	if p.status == http.StatusPartialContent {
		p.partial = true
		policy.RemoveContentDigests(p.header) // it will be cut, or put together with another part
	}
	if x.renewed {
		if d := p.draft(); x.h.opt.Store.PurgedByOthers(&d, p.length(), x.began, x.own) {
			return nil, policy.Stale
		}
	}
	return p, policy.None
}

// setLength sets Content-Length where it does not say so already, as it mostly does.
func setLength(h http.Header, n int64) {
	var buf [20]byte
	text := strconv.AppendInt(buf[:0], n, 10)
	if said := h["Content-Length"]; len(said) != 1 || said[0] != string(text) {
		h["Content-Length"] = []string{string(text)}
	}
}

// tags are those that the rule gives a response with these fields, and its own; behind them its groups. Where there are none, fields of
// tags name nothing and are not stored, so that a hit without tags has no field to be hidden (hideTags).
func (x *exchange) tags(rule *policy.Rule, stored, h http.Header) []string {
	tags := policy.AppendGroups(x.h.tagFields.Append(rule.AppendTags(nil, &x.in, x.host, h), h), h)
	if len(tags) == 0 {
		x.h.tagFields.Strip(stored)
	}
	return tags
}

// stripCookies takes from a response what strip_cookies forbids, so that neither its own client gets it nor those who share it.
func stripCookies(rule *policy.Rule, h http.Header) {
	if rule.StripCookies {
		delete(h, "Set-Cookie")
		delete(h, "Set-Cookie2")
	}
}

// limits are how large a body the rule, the cache and the store take: held as a whole, and uploaded. A part of a representation is not
// uploaded, since it may have to be combined with another.
func (x *exchange) limits(rule *policy.Rule, status int) (held, most int64) {
	most = x.h.opt.Cache.MaxObject
	if rule.MaxObject > 0 {
		most = rule.MaxObject
	}
	held = min(most, x.h.opt.Store.MaxBody())
	if !x.h.opt.Store.TakesUploads() || status == http.StatusPartialContent {
		most = held
	}
	return held, most
}

// shared reports whether the response may answer others than the one who caused it: only what could be served as a fresh hit.
func (p *plan) shared(now time.Time) bool {
	return !p.partial && !p.fresh.NoCache && p.fresh.TTL(now) > 0
}

// selects reports whether a request with these fields selects this response (RFC 9111 section 4.1).
func (p *plan) selects(h http.Header) bool {
	if p.nomination == "" {
		return true
	}
	var buf [256]byte
	return bytes.Equal(p.nomination.AppendSelection(buf[:0], h), p.selection)
}

// answers reports whether the response may answer the journey too, as it might from the store: it is selected, and fresh for it, and no
// purge has come between the lookup that led to its fetch and the journey's own. Which purges select it is known only now.
func (p *plan) answers(j *journey) bool {
	return p.selects(j.rq.Header) && !p.purgedFor(j) && policy.Evaluate(j.rq, p.fresh, j.h.opt.Now(), j.matched).Action == policy.Fresh
}

func (p *plan) purgedFor(j *journey) bool {
	if !j.stamp.Later(p.x.stamp) {
		return false
	}
	d := p.draft()
	return p.x.h.opt.Store.Purged(&d, p.length(), p.x.stamp, j.stamp)
}

// length is the body's if the head says it, else -1.
func (p *plan) length() int64 {
	n, err := strconv.ParseInt(p.header.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// timeLeft is how long the body may still take if it is to be stored.
func (p *plan) timeLeft() time.Duration {
	return p.x.h.opt.Cache.MaxFill - p.x.h.opt.Now().Sub(p.got)
}

// keep stores the response with this body, which has ended well. It copies body.
func (p *plan) keep(body []byte) policy.Reason {
	if p.timeLeft() < 0 {
		return policy.TooSlow
	}
	d := p.draft()
	d.Body = body
	if p.partial {
		if !p.fitPart(&d) {
			return policy.BadContentRange
		}
		if int64(len(d.Body)) > p.limit { // with what was stored
			return policy.TooLarge
		}
	} else {
		d.Header = p.withLength(int64(len(body)))
	}
	e, err := store.NewEntry(d)
	if err != nil {
		return policy.TooLarge
	}
	return p.x.h.opt.Store.SaveSince(e, p.x.stamp)
}

// draft is the response without its body.
func (p *plan) draft() store.Draft {
	d := store.Draft{
		Key: p.x.key, Nomination: p.nomination, Selection: p.selection, Status: p.status, Header: p.header, Freshness: p.fresh,
		Compress: p.compress, ResponseTime: p.got, Tags: p.tags, KeepUntil: p.got.Add(p.fresh.Retention(p.got, p.x.h.opt.Cache.Keep)),
	}
	d.FetchedSince(p.x.stamp)
	if p.x.completing && p.x.stored != nil {
		d.DerivedFrom(p.x.stored)
		d.Tags = policy.MergeTags(slices.Clip(d.Tags), p.x.stored.Tags()) // some bytes are of it, and were purged by its tags
	}
	return d
}

// withLength is the stored fields with the length of a body that did not say it beforehand.
func (p *plan) withLength(n int64) http.Header {
	if p.header["Content-Length"] != nil || !bodyAllowed(p.status) {
		return p.header
	}
	h := p.header.Clone() // others may be copying it
	h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	return h
}

// upload begins to store a body that is too large to be held; nil where that cannot be done now.
func (p *plan) upload() *store.Upload {
	fill := rand.Uint64()
	for fill == 0 {
		fill = rand.Uint64()
	}
	p.fill = fill
	return p.x.h.opt.Store.Upload(p.x.key, p.nomination, p.selection, fill)
}

// storeUploaded stores the response whose body has been uploaded and has ended well, or counts why not.
func (p *plan) storeUploaded(u *store.Upload) {
	if p.timeLeft() < 0 {
		u.Abort()
		p.x.refused(policy.TooSlow)
		return
	}
	d := p.draft()
	d.Header, d.Fill = p.withLength(u.Len()), p.fill
	p.x.settled(p.x.h.opt.Store.SaveUploaded(d, u, p.x.stamp))
}

// store is keep with its refusal counted.
func (p *plan) store(body []byte) policy.Reason {
	why := p.keep(body)
	p.x.settled(why)
	return why
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// fitPart makes the draft of a partial response: combined with the stored part where that is the same representation
// (RFC 9111 section 3.4), complete where both together are, or else on its own.
func (p *plan) fitPart(d *store.Draft) bool {
	part, ok := policy.PartOf(p.header, int64(len(d.Body)))
	if !ok {
		return false
	}
	if old := p.x.stored; old != nil {
		if have, partial := old.Part(); partial {
			if whole, ok := policy.Combine(have, old.ETag(), part, p.header.Get("Etag")); ok {
				d.Body = join(whole, have, old.Body(), part, d.Body)
				d.DerivedFrom(old)
				part = whole
				inherit(d.Header, old)
				d.Tags = policy.MergeTags(d.Tags, old.Tags()) // which the answer to an If-Range need not repeat
			}
		}
	}
	d.Header["Content-Length"] = []string{strconv.Itoa(len(d.Body))}
	if part.First == 0 && part.Last == part.Total-1 {
		d.Status = http.StatusOK
		delete(d.Header, "Content-Range")
		return true
	}
	d.Header["Content-Range"] = []string{contentRange(part.ByteRange, part.Total)}
	d.Part, d.Partial = part, true
	return true
}

// inherit gives a later part the fields that it lacks and the stored one has: the answer to an If-Range may leave them out
// (RFC 9110 section 15.3.7, RFC 9111 section 3.4).
func inherit(h http.Header, from *store.Entry) {
	for name, values := range from.Header() {
		if _, ok := h[name]; !ok {
			h[name] = values
		}
	}
}

// join lays two parts over each other; where they overlap they are the same bytes.
func join(whole, a policy.Part, aBody []byte, b policy.Part, bBody []byte) []byte {
	out := make([]byte, whole.Last-whole.First+1)
	copy(out[a.First-whole.First:], aBody)
	copy(out[b.First-whole.First:], bBody)
	return out
}

// askForAll makes the request of one client that of all: our question instead of its own.
func (x *exchange) askForAll(h http.Header) {
	policy.ClearConditionals(h)
	x.ask(h)
	x.askForRest(h)
}

// askForRest asks only for what a stored first part lacks. A strong validator says whether what comes is still the same
// representation (RFC 9111 section 3.4); without one only a 200 is of use, which is what an origin sends that has no ranges
// for this request any more, and for everything else the request is made again (missesThePoint).
func (x *exchange) askForRest(h http.Header) {
	if x.stored == nil || x.conditional {
		return
	}
	part, partial := x.stored.Part()
	if !partial || part.First != 0 {
		return
	}
	missing, ok := policy.MissingRange(part)
	if !ok {
		return
	}
	h["Range"] = []string{missing}
	if tag := x.stored.ETag(); isStrong(tag) {
		h["If-Range"] = []string{tag}
	}
	x.completing = true
}

// isStrong reports whether tag is a strong validator (RFC 9110 section 8.8.3).
func isStrong(tag string) bool { return len(tag) >= 2 && tag[0] == '"' }

// continues reports whether a 206 brings exactly what the stored first part lacks of the same representation.
func (x *exchange) continues(res *http.Response) bool {
	have, _ := x.stored.Part()
	first, last, total, ok := policy.ParseContentRange(res.Header.Get("Content-Range"))
	return ok && have.First == 0 && total == have.Total && first == have.Last+1 && last == total-1 &&
		isStrong(x.stored.ETag()) && res.Header.Get("Etag") == x.stored.ETag()
}

// complete makes of such a 206 the whole 200: the stored bytes, then the new ones.
func (x *exchange) complete(res *http.Response) {
	have, _ := x.stored.Part()
	res.StatusCode, res.Status = http.StatusOK, "200 OK"
	policy.RemoveContentDigests(res.Header)
	inherit(res.Header, x.stored)
	delete(res.Header, "Content-Range")
	res.Header["Content-Length"] = []string{strconv.FormatInt(have.Total, 10)}
	res.ContentLength = have.Total
	res.Body = joined{io.MultiReader(bytes.NewReader(x.stored.Body()), res.Body), res.Body}
}

// joined reads from one and closes the other.
type joined struct {
	io.Reader
	io.Closer
}
