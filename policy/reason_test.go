package policy

import (
	"regexp"
	"strings"
	"testing"
)

// Every reason can be explained: by a token of its own, a section that can be looked up, and a sentence.
func TestReasonsAreExplained(t *testing.T) {
	token := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	section := regexp.MustCompile(`^RFC [0-9]{4} section [0-9]+(\.[0-9]+)*$`)
	seen := map[string]Reason{}
	for _, r := range Reasons() {
		if !token.MatchString(r.String()) {
			t.Errorf("reason %d: token %q", r, r)
		}
		if other, taken := seen[r.String()]; taken {
			t.Errorf("reasons %d and %d share the token %s", other, r, r)
		}
		seen[r.String()] = r
		if !section.MatchString(r.Section()) {
			t.Errorf("%s: section %q", r, r.Section())
		}
		if s := r.Sentence(); !strings.HasSuffix(s, ".") || strings.ToUpper(s[:1]) != s[:1] {
			t.Errorf("%s: sentence %q", r, s)
		}
	}
	if None.String()+None.Section()+None.Sentence() != "" {
		t.Error("None explains something")
	}
	if r := reasonCount; r.String() != "unknown" || r.Section()+r.Sentence() != "" {
		t.Errorf("a value that is no reason: %q %q %q", r, r.Section(), r.Sentence())
	}
	for f := FwdNone + 1; f < fwdCount; f++ {
		if !token.MatchString(f.String()) || !section.MatchString(f.Section()) || !strings.HasSuffix(f.Sentence(), ".") {
			t.Errorf("fwd %d: %q %q %q", f, f, f.Section(), f.Sentence())
		}
	}
	if FwdNone.String()+FwdNone.Section()+FwdNone.Sentence() != "" {
		t.Error("FwdNone explains something")
	}
}
