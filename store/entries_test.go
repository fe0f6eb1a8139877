package store

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// What is stored of a URL is told as it is, in both tiers, with what selects it and whether a purge forbids it.
func TestEntries(t *testing.T) {
	server := redistest.StartSettled(t)
	r := unswept(t, server)
	vary := policy.Nomination("accept-language")
	e := r.stored(t, purged, func(d *Draft) {
		d.Nomination, d.Selection = vary, vary.AppendSelection(nil, map[string][]string{"Accept-Language": {"de"}})
		d.Tags = []string{"x", policy.GroupTag("g")}
		d.Header.Set("Content-Type", "text/plain")
		d.Header.Set("ETag", `"v1"`)
	})
	list, err := r.Entries(t.Context(), purged)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, k := range list {
		if k.URL != purged || k.Variant != e.variant() || k.Status != e.Status() || k.ContentType != "text/plain" || k.ETag != `"v1"` ||
			k.Length != e.BodyLen() || k.Size < k.Length || k.Fill != e.Fill() || k.Epoch != e.Epoch() || uint64(k.BodyAsOf) != e.BodyAsOf() ||
			uint64(k.ValidAsOf) != e.ValidAsOf() || !k.ResponseTime.Equal(e.ResponseTime()) || !k.KeepUntil.Equal(e.KeepUntil()) || k.Freshness != e.Freshness() ||
			!slices.Equal(k.Tags, []string{"x"}) || !slices.Equal(k.Groups, []string{"g"}) || k.Forbidden != NotForbidden || k.Unnamed || k.Packed || k.Chunks != 0 ||
			!reflect.DeepEqual(k.Nominated, []policy.SelectedField{{Name: "accept-language", Value: "de", Sent: true}}) {
			t.Errorf("%+v", k)
		}
		if (k.Tier == TierRedis) != time.Now().Before(k.Expires) {
			t.Errorf("%v expires at %v", k.Tier, k.Expires)
		}
	}
	if list[0].Tier == list[1].Tier {
		t.Error("twice the same tier")
	}
	if list, err := r.Entries(t.Context(), strings.TrimPrefix(purged, "http://")); err != nil || len(list) != 2 {
		t.Errorf("of any scheme: %+v, %v", list, err)
	}
	if list, err := r.Entries(t.Context(), other); err != nil || len(list) != 0 {
		t.Errorf("of another: %+v, %v", list, err)
	}

	soft := r.appended(t, byURL(true))
	if _, err := r.Sweep(t.Context(), soft, nil); err != nil {
		t.Fatal(err)
	}
	list, _ = r.Entries(t.Context(), purged)
	if k := list[slices.IndexFunc(list, func(k Kept) bool { return k.Tier == TierRedis })]; k.StaleSince != soft.Seq || k.Forbidden != NotForbidden || k.Freshness.TTL(time.Now()) > 0 {
		t.Errorf("%+v", k)
	}
	r.appended(t, byURL(false))
	list, _ = r.Entries(t.Context(), purged)
	for _, k := range list {
		if k.Forbidden != ForbiddenPurge {
			t.Errorf("%+v", k)
		}
	}
	keys := r.far.keys.of(purged)
	server.Admin().HSet(t.Context(), keys.root, e.variant(), "0000000000000001 99999999999999 1 accept-language")
	list, _ = r.Entries(t.Context(), purged)
	if k := list[slices.IndexFunc(list, func(k Kept) bool { return k.Tier == TierRedis })]; !k.Unnamed {
		t.Errorf("%+v", k)
	}
	server.Kill()
	if list, err := r.Entries(t.Context(), purged); err == nil || len(list) != 1 || list[0].Tier != TierNear {
		t.Errorf("%+v, %v", list, err)
	}
}

// A body that is compressed, or in chunks, is told as what Redis holds of it.
func TestEntriesThatAreNotWhole(t *testing.T) {
	server := redistest.StartSettled(t)
	r := unswept(t, server)
	r.stored(t, purged, func(d *Draft) {
		d.Body, d.Compress = []byte(strings.Repeat("x", 10_000)), policy.S2
	})
	r.stored(t, other, func(d *Draft) { d.Body = make([]byte, 3*chunkLen+maxRedisBody) })
	redis := func(url string) Kept {
		t.Helper()
		list, err := r.Entries(t.Context(), url)
		i := slices.IndexFunc(list, func(k Kept) bool { return k.Tier == TierRedis })
		if err != nil || i < 0 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[i]
	}
	if k := redis(purged); !k.Packed || k.Length != 10_000 || k.Size >= k.Length {
		t.Errorf("%+v", k)
	}
	if k := redis(other); k.Chunks != 7 || k.Length != 7*chunkLen || k.Size <= k.Length {
		t.Errorf("%+v", k)
	}
}

func TestOrigins(t *testing.T) {
	for _, where := range []string{"in Redis", "in this process"} {
		t.Run(where, func(t *testing.T) {
			var server *redistest.Server
			if where == "in Redis" {
				server = redistest.StartSettled(t)
			}
			r := unswept(t, server)
			want := []string{}
			held := func(whole bool) {
				t.Helper()
				got, all, err := r.Origins(t.Context())
				if err != nil || all != whole || whole && !slices.Equal(got, want) || len(got) > maxOrigins {
					t.Errorf("%q, %v, %v, want %q", got, all, err, want)
				}
			}
			held(true)
			for _, url := range []string{"http://a.example/{x}", "http://a.example/2", "https://a.example:8443/?y"} {
				r.stored(t, url)
			}
			want = []string{"http://a.example", "https://a.example:8443"}
			held(true)
			for i := range maxOrigins {
				r.stored(t, fmt.Sprintf("http://%d.example/", i))
			}
			held(false)
		})
	}
}

// Nothing is counted by one who does not know what is purged.
func TestPreviewBeforeFollowing(t *testing.T) {
	server := redistest.StartSettled(t)
	server.Kill()
	follower, err := invalidation.Start(invalidation.Options{Instance: "a", Prefix: "cp", Redis: dial(t, server.URL(), DialOptions{}), Waiting: dial(t, server.URL(), DialOptions{})})
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close(t.Context())
	s := newStore(t, Options{Follower: follower, Redis: dial(t, server.URL(), DialOptions{}), Prefix: "cp"})
	if found, err := s.Preview(t.Context(), &invalidation.Purge{Kind: invalidation.KindAll}); err == nil {
		t.Errorf("%+v", found)
	}
}
