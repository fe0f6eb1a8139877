package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/proxy"
	"cacheproxy/store"
)

// Stored is what GET /v1/entries answers: what there is of a URL, whether or not it may be served.
type Stored struct {
	URL string `json:"url"` // as it was asked for, in the form of cache URLs
	// Variants are the stored responses, the latest first.
	Variants []Variant `json:"variants"`
	// Redis is none where there is no Redis, asked, or failed: then Detail says why.
	Redis  string `json:"redis"`
	Detail string `json:"detail,omitempty"`
	Held   *Held  `json:"held,omitempty"` // where nothing is stored of the URL
}

// Variant is one response of a URL, in one tier or in both: near is this process's memory, redis what the replicas share.
type Variant struct {
	URL     string   `json:"url"`
	Variant string   `json:"variant"`        // its name in keys of Redis
	Key     []Wanted `json:"key,omitempty"`  // what the rule's key names, and a request must have
	Vary    []Wanted `json:"vary,omitempty"` // what the response nominates, and a request must have
	Near    *Kept    `json:"near,omitempty"`
	Redis   *Kept    `json:"redis,omitempty"`
}

// Wanted is what of a request selects a response. Values of secrets are REDACTED.
type Wanted struct {
	Kind   string   `json:"kind,omitempty"` // of the key: header, cookie, session ...
	Name   string   `json:"name"`
	Values []string `json:"values,omitempty"`
	Absent bool     `json:"absent,omitempty"` // a request must not have it
}

// Kept is a response as one tier has it.
type Kept struct {
	Status       int       `json:"status"`
	ContentType  string    `json:"content_type,omitempty"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Partial      bool      `json:"partial,omitempty"` // one range of the representation
	StoredAt     time.Time `json:"stored_at"`         // or last validated
	KeepUntil    time.Time `json:"keep_until"`        // when it is forgotten

	Age                  proxy.Seconds `json:"age"`
	Lifetime             proxy.Seconds `json:"lifetime"`
	TTL                  proxy.Seconds `json:"ttl"` // what is left of the lifetime; negative: stale for so long
	Heuristic            bool          `json:"heuristic,omitempty"`
	StaleWhileRevalidate proxy.Seconds `json:"stale_while_revalidate,omitempty"`
	StaleIfError         proxy.Seconds `json:"stale_if_error,omitempty"`
	NoCache              bool          `json:"no_cache,omitempty"`
	MustRevalidate       bool          `json:"must_revalidate,omitempty"`
	Immutable            bool          `json:"immutable,omitempty"`

	Tags   []string `json:"tags,omitempty"`
	Groups []string `json:"groups,omitempty"`

	Bytes  int64 `json:"bytes"`            // of the body
	Size   int64 `json:"size"`             // that the tier holds of it, in bytes
	Packed bool  `json:"packed,omitempty"` // compressed, in Redis
	Chunks int   `json:"chunks,omitempty"` // in which the body is

	Fill       string           `json:"fill"` // names the fetch of the body
	Epoch      string           `json:"epoch"`
	BodyAsOf   invalidation.Seq `json:"body_as_of"`  // the last purge applied before the body was fetched
	ValidAsOf  invalidation.Seq `json:"valid_as_of"` // and before it was last validated
	StaleSince invalidation.Seq `json:"stale_since,omitempty"`
	Generation uint32           `json:"rule_generation"`
	// Forbidden says why it is served to nobody: purge, epoch (it is of a log of purges that has ended) or unnamed (another fetch has taken its
	// place).
	Forbidden string `json:"forbidden,omitempty"`
	// Expires is when Redis deletes it.
	Expires *time.Time `json:"expires,omitempty"`
}

// entriesPatience is how long Redis may take.
const entriesPatience = 2 * time.Second

func (p *purging) entries(w http.ResponseWriter, r *http.Request) {
	query, ok := parameters(w, r, "url")
	if !ok {
		return
	}
	url, err := cacheURL(query.Get("url"))
	if err != nil {
		WriteProblem(w, http.StatusBadRequest, err.Error(), nil)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), entriesPatience)
	defer cancel()
	list, err := p.Store.Entries(ctx, url)
	told := Stored{URL: url, Variants: []Variant{}, Redis: "asked"}
	switch {
	case err != nil:
		told.Redis, told.Detail = "failed", err.Error()
	case p.Store.Shared() != store.TierRedis:
		told.Redis = "none"
	}
	now := time.Now()
	for i := range list {
		p.addTo(&told, &list[i], now)
	}
	if len(list) == 0 && err == nil {
		told.Held = p.held(ctx)
	}
	WriteJSON(w, http.StatusOK, told)
}

// addTo adds what one tier has to its variant.
func (p *purging) addTo(told *Stored, k *store.Kept, now time.Time) {
	i := slices.IndexFunc(told.Variants, func(v Variant) bool { return v.URL == k.URL && v.Variant == k.Variant })
	if i < 0 {
		i = len(told.Variants)
		v := Variant{URL: k.URL, Variant: k.Variant}
		for _, x := range k.Extras {
			secret := x.Kind == "cookie" || x.Kind == "cookie line" || x.Kind == "session"
			v.Key = append(v.Key, p.wanted(Wanted{Kind: x.Kind, Name: x.Name, Values: x.Values, Absent: len(x.Values) == 0}, secret))
		}
		for _, f := range k.Nominated {
			one := Wanted{Name: f.Name, Absent: !f.Sent}
			if f.Sent {
				one.Values = []string{f.Value}
			}
			v.Vary = append(v.Vary, p.wanted(one, false))
		}
		told.Variants = append(told.Variants, v)
	}
	if k.Tier == store.TierNear {
		told.Variants[i].Near = kept(k, now)
	} else {
		told.Variants[i].Redis = kept(k, now)
	}
}

// secretFields are those whose values are never shown.
var secretFields = []string{"authorization", "proxy-authorization", "cookie"}

const redacted = "REDACTED"

// wanted takes the values out that must not be shown.
func (p *purging) wanted(one Wanted, secret bool) Wanted {
	name := strings.ToLower(one.Name)
	if !secret && !slices.Contains(secretFields, name) && !p.Redacted(name) {
		return one
	}
	values := make([]string, len(one.Values))
	for i := range values {
		values[i] = redacted
	}
	one.Values = values
	return one
}

func kept(k *store.Kept, now time.Time) *Kept {
	f := k.Freshness
	told := &Kept{
		Status: k.Status, ContentType: k.ContentType, ETag: k.ETag, LastModified: k.LastModified, Partial: k.Partial,
		StoredAt: k.ResponseTime.UTC(), KeepUntil: k.KeepUntil.UTC(),
		Age: proxy.Seconds(f.Age(now)), Lifetime: proxy.Seconds(f.Lifetime), TTL: proxy.Seconds(f.TTL(now)), Heuristic: f.Heuristic,
		StaleWhileRevalidate: proxy.Seconds(f.StaleWhileRevalidate), StaleIfError: proxy.Seconds(f.StaleIfError),
		NoCache: f.NoCache, MustRevalidate: f.MustRevalidate, Immutable: f.Immutable, Tags: k.Tags, Groups: k.Groups,
		Bytes: k.Length, Size: k.Size, Packed: k.Packed, Chunks: k.Chunks,
		Fill: fmt.Sprintf("%016x", k.Fill), Epoch: fmt.Sprintf("%016x", k.Epoch), BodyAsOf: k.BodyAsOf, ValidAsOf: k.ValidAsOf, StaleSince: k.StaleSince,
		Generation: k.RuleGeneration, Forbidden: string(k.Forbidden),
	}
	if k.Unnamed {
		told.Forbidden = cmp.Or(told.Forbidden, "unnamed")
	}
	if !k.Expires.IsZero() {
		told.Expires = new(k.Expires.UTC())
	}
	return told
}
