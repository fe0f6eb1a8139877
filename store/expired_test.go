package store

import (
	"testing"

	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// A root may name a variant that has expired: a purge of the URL forgets the name, and does not count what was not there.
func TestWhatHasExpiredIsNotSwept(t *testing.T) {
	server := redistest.Start(t)
	r := unswept(t, server)
	vary := policy.Nomination("accept-language")
	var gone *Entry
	for _, language := range []string{"de", "en"} {
		gone = r.stored(t, purged, func(d *Draft) {
			d.Nomination, d.Selection = vary, vary.AppendSelection(nil, map[string][]string{"Accept-Language": {language}})
		})
	}
	keys := r.far.keys.of(purged)
	if n := server.Admin().Unlink(t.Context(), keys.entryKey(gone.variant())).Val(); n != 1 {
		t.Fatal("not stored")
	}
	p := byURL(false)
	if found, err := r.Preview(t.Context(), &p); err != nil || found.Matched != 1 {
		t.Errorf("a preview finds %+v, %v", found, err)
	}
	found, err := r.Sweep(t.Context(), r.appended(t, p), nil)
	if err != nil || found.Matched != 1 || found.Swept != 1 || found.Bytes != gone.BodyLen() {
		t.Errorf("%+v, %v", found, err)
	}
	if server.Admin().Exists(t.Context(), keys.root).Val() != 0 {
		t.Error("the root names it still")
	}
}
