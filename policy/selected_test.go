package policy

import (
	"net/http"
	"reflect"
	"testing"
)

func TestSplitSelection(t *testing.T) {
	n := ParseVary(http.Header{"Vary": {"X-Plan, Accept-Encoding, X-None, X-Empty"}})
	selection := n.AppendSelection(nil, http.Header{"X-Plan": {"gold"}, "Accept-Encoding": {"gzip"}, "X-Empty": {""}})
	want := []SelectedField{{"accept-encoding", "gzip", true}, {"x-empty", "", true}, {"x-none", "", false}, {"x-plan", "gold", true}}
	if got := SplitSelection(selection); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	for i := range selection { // whatever is cut off, the rest is told
		got := SplitSelection(selection[:i])
		if len(got) > len(want)-1 || len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
			t.Errorf("cut at %d: %+v", i, got)
		}
	}
	if got := SplitSelection([]byte("\xff\xff\xff\xf0x")); got != nil {
		t.Errorf("%+v", got)
	}
}
