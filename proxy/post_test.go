package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cacheproxy/policy"
)

// postRig is a cache in front of an origin whose answers to POST may answer a GET later (RFC 9110 section 9.3.3), and say who asked.
func postRig(t *testing.T, field string, rules ...policy.RuleSpec) *rig {
	return newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Location", req.URL.Path)
		_, _ = fmt.Fprintf(w, "for %q", req.Header.Get(field))
	}, withRules(t, rules...), func(o *Options) { o.Sessions = orNone{} })
}

// orNone is byField where no session has no fields.
type orNone struct{}

func (orNone) Resolve(ctx context.Context, r *http.Request) (map[string]string, bool) {
	fields, ok := byField{}.Resolve(ctx, r)
	if !ok {
		return nil, false
	}
	return fields, true
}

// The response to a POST in a session answers nobody without it, whichever of the rules for POST and GET knows of sessions.
func TestPostInASessionIsStoredForNobodyElse(t *testing.T) {
	keyed := policy.KeySpec{Session: []string{"user"}}
	post, get := policy.MatchSpec{Method: []string{"POST"}}, policy.MatchSpec{Method: []string{"GET"}}
	for name, rules := range map[string][]policy.RuleSpec{
		"both":                {{Key: keyed}},
		"POST":                {{Match: post, Key: keyed}},
		"GET":                 {{Match: get, Key: keyed}},
		"POST, not keyed":     {{Match: post, RequireSession: true}},
		"GET, POST not keyed": {{Match: post, RequireSession: true}, {Match: get, Key: keyed}},
	} {
		t.Run(name, func(t *testing.T) {
			r := postRig(t, "X-Session", rules...)
			r.do("POST", "/", strings.NewReader("x"), "X-Session: a").is(t, 200, `for "a"`)
			r.get("/").is(t, 200, `for ""`)
		})
	}
}

// A field that Connection names does not reach the upstream, so it is no part of the key either.
func TestPostIsKeyedByWhatWasForwarded(t *testing.T) {
	r := postRig(t, "X-Lang", policy.RuleSpec{Key: policy.KeySpec{Headers: []string{"X-Lang"}}})
	r.do("POST", "/", strings.NewReader("x"), "X-Lang: de", "Connection: X-Lang").is(t, 200, `for ""`)
	r.get("/", "X-Lang: de").is(t, 200, `for "de"`)
	r.do("POST", "/", strings.NewReader("x"), "X-Lang: en").is(t, 200, `for "en"`)
	r.get("/", "X-Lang: en").is(t, 200, `for "en"`).status(t, "cacheproxy; hit; ttl=60")
}

// The rule for GET drops a parameter that was forwarded with the POST.
func TestPostIsNotStoredUnderTheKeyOfAnotherRule(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Location", "/")
		_, _ = fmt.Fprint(w, req.URL.RawQuery)
	}, withRules(t, policy.RuleSpec{
		Match: policy.MatchSpec{Method: []string{"GET"}}, Key: policy.KeySpec{Query: policy.QuerySpec{Ignore: []string{"utm_*"}}},
	}))
	r.do("POST", "/?utm_source=evil", strings.NewReader("x")).is(t, 200, "utm_source=evil")
	r.get("/").is(t, 200, "")
}
