package policy

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// RFC 9111 section 4.1: calculating cache keys with the Vary header field.
func TestRFC9111Section4_1ParseVary(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  Nomination
	}{
		{nil, ""},
		{[]string{"Vary: "}, ""},
		{[]string{"Vary: ,, ,"}, ""},
		{[]string{"Vary: Foo"}, "foo"},
		{[]string{"Vary: Foo, bAr"}, "bar,foo"},
		{[]string{"Vary: foo,\tFOO ,foo"}, "foo"},
		{[]string{"Vary: Foo", "Vary: Accept-Encoding"}, "accept-encoding,foo"},
		{[]string{"Vary: *"}, NominationStar},
		{[]string{"Vary: *, *"}, NominationStar},
		{[]string{"Vary: *", "Vary: *"}, NominationStar},
		{[]string{"Vary: , *"}, NominationStar},
		{[]string{"Vary: ", "Vary: *"}, NominationStar},
		{[]string{"Vary: *, Foo"}, NominationStar},
		{[]string{"Vary: Foo, *"}, NominationStar},
		{[]string{"Vary: Accept-Encoding Accept-Language"}, NominationStar},
		{[]string{"Vary: foo;q=1"}, NominationStar},
	} {
		if got := ParseVary(header(tt.lines...)); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
		}
	}
}

func TestRFC9111Section4_1Selection(t *testing.T) {
	for _, tt := range []struct {
		nomination Nomination
		a, b       []string
		same       bool
	}{
		{"", []string{"Foo: 1"}, nil, true},
		{"foo", []string{"Foo: 1"}, []string{"Foo: 1", "Other: 2"}, true},
		{"foo", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{"foo", nil, []string{"Foo: 1"}, false},
		{"foo", nil, nil, true},
		{"foo", nil, []string{"Foo: "}, false},
		{"bar,baz,foo", []string{"Foo: 1", "Baz: 789"}, []string{"Baz: 789", "Foo: 1"}, true},
		{"bar,baz,foo", []string{"Foo: 1", "Bar: abc4", "Baz: 789"}, []string{"Foo: 1", "Bar: abc", "Baz: 789"}, false},
		{"bar,foo", []string{"Bar: 1", "Foo: 2"}, []string{"Bar: 2", "Foo: 1"}, false},
		{"bar,foo", []string{"Bar: 1"}, []string{"Foo: 1"}, false},
		{"bar,foo", []string{"Bar: ab", "Foo: c"}, []string{"Bar: a", "Foo: bc"}, false},

		{"foo", []string{"Foo: 1, 2"}, []string{"Foo: 1", "Foo: 2"}, true},
		{"foo", []string{"Foo: 1,2"}, []string{"Foo:  1, 2 "}, true},
		{"foo", []string{"Foo: 1 2"}, []string{"Foo: 12"}, false},
		{"foo", []string{"Foo: 1, 2"}, []string{"Foo: 2, 1"}, false},
		{"foo", []string{"Foo: a"}, []string{"Foo: A"}, false},
		{"foo", []string{`Foo: "a, b"`}, []string{`Foo: "a,b"`}, false},
		{"foo", []string{`Foo: "a\" , b"`}, []string{`Foo: "a\",b"`}, false},
		{"foo", []string{`Foo: "a" , b`}, []string{`Foo: "a",b`}, true},
		{"foo", []string{`Foo: "a `}, []string{`Foo: "a`}, false},
		{"foo", []string{`Foo: "a ", b`}, []string{`Foo: "a"`, "Foo: b"}, false},
		{"foo", []string{`Foo: a "`, "Foo:  b"}, []string{`Foo: a "`, "Foo: b"}, false},

		{"cookie", []string{"Cookie: a=1, b"}, []string{"Cookie: a=1,b"}, false},
		{"cookie", []string{"Cookie: a=1 "}, []string{"Cookie: a=1"}, true},
		{"cookie", []string{"Cookie: a=1", "Cookie: b=2"}, []string{"Cookie: a=1,b=2"}, false},
		{"user-agent", []string{"User-Agent: x (like Gecko, really)"}, []string{"User-Agent: x (like Gecko,really)"}, false},
		{"origin", []string{"Origin: https://a.example"}, []string{"Origin: https://b.example"}, false},
		{"accept", []string{"Accept: text/html, */*"}, []string{"Accept: text/html,*/*"}, true},

		{"accept-language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: de, en"}, true},
		{"accept-language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: eN, De"}, true},
		{"accept-language", []string{"Accept-Language: en, de"}, []string{"Accept-Language:  en ,   de"}, true},
		{"accept-language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: de", "Accept-Language: en"}, true},
		{"accept-language", []string{"Accept-Language: en, de;q=0.5"}, []string{"Accept-Language: de;q=0.5, en;q=1.0"}, true},
		{"accept-language", []string{"Accept-Language: en, de;q=0.5"}, []string{"Accept-Language: en;q=0.5, de"}, false},
		{"accept-language", []string{"Accept-Language: en"}, []string{"Accept-Language: en-GB"}, false},
		{"accept-language", []string{"Accept-Language: x-gzip"}, []string{"Accept-Language: gzip"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip, br"}, []string{"Accept-Encoding: BR,GZip"}, true},
		{"accept-encoding", []string{"Accept-Encoding: gzip ; Q=0.50, br"}, []string{"Accept-Encoding: br;q=1.000,gzip;q=0.5"}, true},
		{"accept-encoding", []string{"Accept-Encoding: x-gzip"}, []string{"Accept-Encoding: gzip"}, true},
		{"accept-encoding", []string{"Accept-Encoding: gzip"}, []string{"Accept-Encoding: gzip;q=0"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip"}, nil, false},
		{"accept-encoding", []string{"Accept-Encoding: "}, nil, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip;q=0.001"}, []string{"Accept-Encoding: gzip;q=0.002"}, false},
		// What is no list of weights stays as it is, and equals nothing that is.
		{"accept-encoding", []string{"Accept-Encoding: gzip, gzip"}, []string{"Accept-Encoding: gzip"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip;q=2"}, []string{"Accept-Encoding: gzip;q=1"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip;q=1.5"}, []string{"Accept-Encoding: gzip"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip;q=0.5555"}, []string{"Accept-Encoding: gzip;q=0.555"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip;q=0.a"}, []string{"Accept-Encoding: gzip;q=0"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip;level=9"}, []string{"Accept-Encoding: gzip"}, false},
		{"accept-encoding", []string{"Accept-Encoding: gzip br"}, []string{"Accept-Encoding: gzip, br"}, false},
		{"accept-encoding", []string{"Accept-Encoding: (gzip)"}, []string{"Accept-Encoding: gzip"}, false},
		{"accept-encoding", []string{"Accept-Encoding: " + letters(30)}, []string{"Accept-Encoding: " + letters(29)}, false},
	} {
		a := tt.nomination.AppendSelection(nil, header(tt.a...))
		b := tt.nomination.AppendSelection(nil, header(tt.b...))
		if bytes.Equal(a, b) != tt.same {
			t.Errorf("%s: %q is %q, %q is %q, same = %v", tt.nomination, tt.a, a, tt.b, b, !tt.same)
		}
	}
	if got := NominationStar.AppendSelection([]byte("x"), header()); string(got) != "x" {
		t.Errorf("* appended %q", got)
	}
}

// letters is a list of n names.
func letters(n int) string {
	return strings.TrimSuffix(strings.Repeat("x,", n), ",")
}

// The form of the bytes is kept in Redis, so it may not change unnoticed.
func TestSelectionFormat(t *testing.T) {
	h := header("Accept-Encoding: gzip;q=0.50, BR")
	got := Nomination("accept-encoding,foo").AppendSelection(nil, h)
	want := "\x00\x00\x00\x0faccept-encoding\x00\x00\x00\x0dbr,gzip;q=0.5" + "\x00\x00\x00\x03foo\xff\xff\xff\xff"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestNamesThatAreNominatedMost(t *testing.T) {
	for _, lower := range []string{"accept-encoding", "accept-language", "accept", "origin", "cookie", "user-agent", "x-other"} {
		canonical := http.CanonicalHeaderKey(lower)
		if got := canonicalName(lower); got != canonical {
			t.Errorf("canonicalName(%q) = %q", lower, got)
		}
		for _, name := range []string{canonical, lower, strings.ToUpper(lower)} {
			if got := lowerName(name); got != lower {
				t.Errorf("lowerName(%q) = %q", name, got)
			}
		}
	}
}
