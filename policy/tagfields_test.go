package policy

import (
	"net/http"
	"slices"
	"testing"
)

func TestTagFieldsOfOtherNames(t *testing.T) {
	fields, err := NewTagFields([]string{"x-tags", "SURROGATE-KEY"})
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{"X-Tags": {"a b, c"}, "Surrogate-Key": {"d e"}, "Xkey": {"f"}, "Cache-Tag": {"g"}, "Cache-Groups": {`"h"`}}
	if got := fields.Append(nil, h); !slices.Equal(got, []string{"a b", "c", "d", "e"}) {
		t.Errorf("%q", got)
	}
	fields.Strip(h)
	if len(h) != 2 || h["Xkey"] == nil || h["Cache-Tag"] == nil {
		t.Errorf("%v", h)
	}
	none, err := NewTagFields(nil)
	if got := none.Append(nil, h); err != nil || got != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestCheckTagField(t *testing.T) {
	for name, ok := range map[string]bool{
		"Surrogate-Key": true, "xkey": true, "X-Tags": true, "X-Content-Tags": true,
		"": false, "a b": false, "a:": false, "cache-groups": false, "etag": false, "Content-Type": false, "content-tags": false,
		"Access-Control-Allow-Origin": false, "set-cookie": false, "Vary": false, "Www-Authenticate": false, "Accept-Ranges": false,
	} {
		err := CheckTagField(name)
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if _, newErr := NewTagFields([]string{name}); (newErr == nil) != ok {
			t.Errorf("%q: %v", name, newErr)
		}
	}
}

// BenchmarkStrip is a part of every hit that has tags.
func BenchmarkStrip(b *testing.B) {
	fields, _ := NewTagFields(DefaultTagFields())
	h := http.Header{"Cache-Control": nil, "Content-Type": nil, "Content-Length": nil, "Etag": nil, "Date": nil}
	b.ReportAllocs()
	for b.Loop() {
		fields.Strip(h)
	}
}
