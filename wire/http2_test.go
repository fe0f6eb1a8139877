package wire

import (
	"net/http/httptest"
	"testing"
)

// What a reload changes holds for refusals over HTTP/2 as well.
func TestRefusalsOfHTTP2HaveTheNameOfTheMoment(t *testing.T) {
	g := NewGate(Options{Live: Live{Name: "before"}})
	r := httptest.NewRequest("GET", "/", nil)
	r.ProtoMajor, r.Host = 2, ""
	for _, name := range []string{"before", "after"} {
		g.Adopt(Live{Name: name})
		w := httptest.NewRecorder()
		if !g.Refuse(w, r) || w.Header().Get("Cache-Status") != name+"; detail=host-missing" {
			t.Errorf("%q: %d %v", name, w.Code, w.Header())
		}
	}
}
