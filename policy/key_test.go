package policy

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// keyRule compiles the key part of a rule.
func keyRule(tb testing.TB, spec KeySpec) *KeyRule {
	tb.Helper()
	return mustCompile(tb, SiteSpec{Rules: []RuleSpec{{Key: spec}}}).Find("").Rules[0].Key
}

func TestKeyURL(t *testing.T) {
	tests := []struct{ scheme, host, path, query, want string }{
		{"http", "a.example", "/", "", "http://a.example/"},
		{"HTTPS", "A.Example", "/X", "Q=1", "https://a.example/X?Q=1"},
		{"http", "a", "", "", "http://a/"},
		{"http", "a", "", "q", "http://a/?q"},
		{"http", "a", "/?", "", "http://a/?"},
		{"http", "a:80", "/", "", "http://a/"},
		{"http", "a:", "/", "", "http://a/"},
		{"http", "a:443", "/", "", "http://a:443/"},
		{"https", "a:443", "/", "", "https://a/"},
		{"https", "a:80", "/", "", "https://a:80/"},
		{"http", "a:080", "/", "", "http://a:080/"},
		{"http", "[2001:DB8::1]:80", "/", "", "http://[2001:db8::1]/"},
		{"http", "[::1]", "/", "", "http://[::1]/"},
		{"http", "[::1]:81", "/", "", "http://[::1]:81/"},

		// The bytes that are forwarded, whatever they are.
		{"http", "a", "//b/../c/./%2E%2e", "", "http://a//b/../c/./%2E%2e"},
		{"http", "a", `/a|b^"c`, "b=2;c=3&a=%zz", `http://a/a|b^"c?b=2;c=3&a=%zz`},
		{"http", "a", "/{x}%2f%2F", "{y}", "http://a/{x}%2f%2F?{y}"},
		{"http", "a", "/", "?", "http://a/??"},

		// Hosts that are none stay apart from those that are.
		{"http", "", "/a", "", "http:///a"},
		{"http", "a.", "/", "", "http://a./"},
		{"http", "a/b", "/c", "", "http://a%2Fb/c"},
		{"http", "a%2fb", "/c", "", "http://a%252fb/c"},
		{"http", "u:p@a", "/", "", "http://u:p%40a/"},
		{"http", "a?b", "/", "", "http://a%3Fb/"},
		{"http", "a#b", "/", "", "http://a%23b/"},
		{"http", `a\b`, "/", "", "http://a%5Cb/"},
		{"http", "a\x00\xff", "/", "", "http://a%00%FF/"},
		{"http", "a:80:80", "/", "", "http://a:80:80/"},
		{"http", "::1:80", "/", "", "http://::1:80/"},

		// What is no path cannot lengthen the host.
		{"http", "a", "*", "", "http://a#*"},
		{"http", "a", "b/c", "", "http://a#b/c"},
		{"http", "a", "?b", "", "http://a#?b"},
	}
	for _, tt := range tests {
		got := DefaultRule.Key.Key(tt.scheme, tt.host, tt.path, tt.query, http.Header{"Cookie": {"a=b"}}, map[string]string{"user": "1"})
		if got != (Key{URL: tt.want}) {
			t.Errorf("%s %s %s %s: %q, want %q", tt.scheme, tt.host, tt.path, tt.query, got, tt.want)
		}
	}
}

// TestKeyAbsoluteForm: the target of absolute-form names the same resource as origin-form with a Host field, and wins over
// the Host field beside it (RFC 9112 section 3.2.2).
func TestKeyAbsoluteForm(t *testing.T) {
	for head, want := range map[string]string{
		"GET /a%2Fb?q HTTP/1.1\r\nHost: shop.example\r\n\r\n":                              "http://shop.example/a%2Fb?q",
		"GET http://shop.example/a%2Fb?q HTTP/1.1\r\nHost: evil.example\r\n\r\n":           "http://shop.example/a%2Fb?q",
		"GET http://Shop.Example:80/a%2Fb?q HTTP/1.1\r\nHost: shop.example\r\n\r\n":        "http://shop.example/a%2Fb?q",
		"GET http://shop.example?q HTTP/1.1\r\nHost: evil.example\r\n\r\n":                 "http://shop.example/?q",
		"GET /http://shop.example/a%2Fb?q HTTP/1.1\r\nHost: evil.example\r\n\r\n":          "http://evil.example/http://shop.example/a%2Fb?q",
		"GET http://shop.example@evil.example/a%2Fb?q HTTP/1.1\r\nHost: a.example\r\n\r\n": "http://evil.example/a%2Fb?q",
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			t.Errorf("%q: %v", head, err)
			continue
		}
		if got := DefaultRule.Key.Key("http", r.Host, r.URL.EscapedPath(), r.URL.RawQuery, r.Header, nil).URL; got != want {
			t.Errorf("%q: %s, want %s", head, got, want)
		}
	}
}

func TestForwardQuery(t *testing.T) {
	tests := []struct {
		name     string
		rule     QuerySpec
		in, want string
	}{
		{"nothing asked", QuerySpec{}, "b=2;c=3&a=%zz&&", "b=2;c=3&a=%zz&&"},
		{"ignore", QuerySpec{Ignore: []string{"utm_*"}}, "utm_source=x&a=1&utm_=2&b", "a=1&b"},
		{"ignore, encoded", QuerySpec{Ignore: []string{"utm_*"}}, "%75tm_source=x&a=1&utm%5fx=2", "a=1"},
		{"ignore, all gone", QuerySpec{Ignore: []string{"utm_*"}}, "utm_source=x", ""},
		{"ignore, nothing to do", QuerySpec{Ignore: []string{"utm_*"}}, "b=%zz&&a=1&", "b=%zz&&a=1&"},
		{"ignore, the rest is untouched", QuerySpec{Ignore: []string{"x"}}, "&b=%zz&x&%61=+&", "&b=%zz&%61=+&"},
		{"ignore, case", QuerySpec{Ignore: []string{"utm_*"}}, "UTM_x=1", "UTM_x=1"},
		{"ignore, value only", QuerySpec{Ignore: []string{"utm_*"}}, "a=utm_x", "a=utm_x"},
		{"ignore, literal name that decodes badly", QuerySpec{Ignore: []string{"%zz"}}, "%zz=1&a", "a"},
		{"ignore, raw name", QuerySpec{Ignore: []string{"a+b"}}, "a+b=1&a%20b=2&c", "a%20b=2&c"},
		{"ignore, decoded name", QuerySpec{Ignore: []string{"a b"}}, "a+b=1&a%20b=2&c", "c"},
		{"ignore, duplicates", QuerySpec{Ignore: []string{"x"}}, "x=1&a&x=2", "a"},
		{"cloaked behind an ignored one", QuerySpec{Ignore: []string{"utm_*"}}, "a=1&utm_x=1;callback=evil", "a=1"},
		{"cloaked in an ignored name", QuerySpec{Ignore: []string{"utm_*"}}, "a=1&utm_x;callback=evil", "a=1"},
		{"cloaked behind a kept one", QuerySpec{Ignore: []string{"utm_*"}}, "a=1;utm_x=1", "a=1;utm_x=1"},
		{"allow", QuerySpec{Allow: []string{"a", "p*"}}, "x=1&page=2&&a=3&A=4&a", "page=2&a=3&a"},
		{"allow, encoded", QuerySpec{Allow: []string{"page"}}, "p%61ge=2&x", "p%61ge=2"},
		{"allow less ignore", QuerySpec{Allow: []string{"p*"}, Ignore: []string{"px"}}, "px=1&py=2&z", "py=2"},
		{"sort", QuerySpec{Sort: true}, "c=1&a=2&b=3", "a=2&b=3&c=1"},
		{"sort is stable", QuerySpec{Sort: true}, "b=2&a=2&b=1&a=1", "a=2&a=1&b=2&b=1"},
		{"sort by decoded name", QuerySpec{Sort: true}, "b=1&%61=2&a=1", "%61=2&a=1&b=1"},
		{"sorted already", QuerySpec{Sort: true}, "a=1&%61=2&b", "a=1&%61=2&b"},
		{"sort drops empty ones", QuerySpec{Sort: true}, "a&&b&", "a&b"},
		{"sort, empty name", QuerySpec{Sort: true}, "b&=1", "=1&b"},
		{"empty", QuerySpec{Sort: true, Ignore: []string{"x"}}, "", ""},
	}
	for _, tt := range tests {
		if got := keyRule(t, KeySpec{Query: tt.rule}).ForwardQuery(tt.in); got != tt.want {
			t.Errorf("%s: %q becomes %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestKeyExtras(t *testing.T) {
	k := keyRule(t, KeySpec{Headers: []string{"x-lang"}, Cookies: []string{"role"}, Session: []string{"user"}})
	got := k.Key("http", "a", "/", "", http.Header{"X-Lang": {"de", ""}, "Cookie": {"a=b; role=x;role=y"}}, map[string]string{"user": "7", "x": "y"})
	if want := "h6:X-Lang2;2:de0:c4:role2;1:x1:ys4:user1;1:7"; got.Extras != want {
		t.Errorf("%q, want %q", got.Extras, want)
	}
	if got := k.Key("http", "a", "/", "", nil, nil); got.Extras != "h6:X-Lang0;c4:role0;s4:user0;" {
		t.Errorf("nothing present: %q", got.Extras)
	}
}

// TestKeyExtrasApart: no two of these requests share a key, although most delimiters would let some of them.
func TestKeyExtrasApart(t *testing.T) {
	k := keyRule(t, KeySpec{Headers: []string{"A", "B"}, Cookies: []string{"c", "d"}, Session: []string{"s"}})
	requests := []struct {
		header  http.Header
		session map[string]string
	}{
		{nil, nil},
		{http.Header{"A": {""}}, nil},
		{http.Header{"A": {"", ""}}, nil},
		{http.Header{"B": {""}}, nil},
		{http.Header{"A": {"x,y"}}, nil},
		{http.Header{"A": {"x", "y"}}, nil},
		{http.Header{"A": {"x"}, "B": {"y"}}, nil},
		{http.Header{"A": {"x1:B1;1:y"}}, nil},
		{http.Header{"Cookie": {"c="}}, nil},
		{http.Header{"Cookie": {"c=x"}}, nil},
		{http.Header{"Cookie": {"d=x"}}, nil},
		{http.Header{"Cookie": {"c=x; c=y"}}, nil},
		{http.Header{"Cookie": {"c=y; c=x"}}, nil},
		{http.Header{"Cookie": {"c=x", "c=y"}}, nil},
		{http.Header{"Cookie": {"c=x; d=y"}}, nil},
		{nil, map[string]string{"s": ""}},
		{nil, map[string]string{"s": "x"}},
		{http.Header{"A": {"x"}}, map[string]string{"s": "x"}},
	}
	seen := map[Key]int{}
	for i, r := range requests {
		key := k.Key("http", "a", "/", "", r.header, r.session)
		if other, taken := seen[key]; taken {
			t.Errorf("%d and %d share %q", other, i, key)
		}
		seen[key] = i
	}
}

// TestFieldAliases: what an origin behind CGI takes for the named field is part of the key too.
func TestFieldAliases(t *testing.T) {
	k := keyRule(t, KeySpec{Headers: []string{"X-My-Lang"}})
	seen := map[string]int{}
	for i, h := range []http.Header{
		{}, {"X_my_lang": {"de"}}, {"X-My_lang": {"de"}}, {"X_my_lang": {"en"}}, {"X-My-Lang": {"de"}}, {"X_my_lang": {"de"}, "X-My_lang": {"de"}},
		{"X_my_lang": {"de"}, "X-My_lang": {"de"}, "X-My-Lang": {"de"}},
	} {
		h["X_other_"] = []string{"de"}
		extras := k.Key("http", "a", "/", "", h, nil).Extras
		if other, taken := seen[extras]; taken {
			t.Errorf("%d and %d share %q", other, i, extras)
		}
		seen[extras] = i
	}
}

// TestCookiesInDoubt: where an origin may read another value than we do, only the same Cookie lines share a key.
func TestCookiesInDoubt(t *testing.T) {
	k := keyRule(t, KeySpec{Cookies: []string{"role"}})
	extras := func(lines ...string) string {
		return k.Key("http", "a", "/", "", http.Header{"Cookie": lines}, nil).Extras
	}
	plain := extras("role=admin")
	for _, line := range []string{
		"role=admin; other=1", "x=y;role = admin ", `x="a b"; role=admin`, "x=a,b; role=admin", `x={"a":1,"role":2}; role=admin`,
		"roles=1; xrole=2; role=admin", "x=%zz; %zz=1; role=admin", "flag; role=admin", "x=1,role; role=admin",
	} {
		if extras(line) != plain {
			t.Errorf("%q does not share the key of role=admin", line)
		}
	}
	for _, lines := range [][]string{
		{`x="; role=admin; y="`},
		{`x="a\"; role=admin; y="`},
		{`x="; role=admin`},
		{"Role=user; role=admin"},
		{"r%6fle=user; role=admin"},
		{"role[]=user; role=admin"},
		{"x=1, role=user; role=admin"},
		{"x=1,y=2,role =user; role=admin"},
		{"\xa0role=user; role=admin"},
		{"role\u3000=user; role=admin"},
		{"%0arole=user; role=admin"},
		{"x=1,\xa0role\x85=user; role=admin"},
		{"role=admin", "x=y"},
	} {
		if extras(lines...) == plain {
			t.Errorf("%q shares the key of role=admin", lines)
		}
	}
	dotted := keyRule(t, KeySpec{Cookies: []string{"user_role"}})
	a := dotted.Key("http", "a", "/", "", http.Header{"Cookie": {"user.role=admin"}}, nil)
	b := dotted.Key("http", "a", "/", "", nil, nil)
	if a == b {
		t.Error("user.role, which PHP calls user_role, is not part of the key")
	}
}

// forwarded is what reaches the origin of a target, with what HTTP calls equal folded by other means than Key's.
func forwarded(scheme, host, path, query string) string {
	host = string(appendLower(nil, host)) // strings.ToLower replaces what is not UTF-8
	if name, port, ok := strings.Cut(host, ":"); ok && !strings.HasPrefix(host, "[") &&
		(port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443") {
		host = name
	}
	if name, port, ok := strings.Cut(host, "]"); ok && strings.HasPrefix(host, "[") &&
		(port == ":" || scheme == "http" && port == ":80" || scheme == "https" && port == ":443") {
		host = name + "]"
	}
	target := path
	if path == "" {
		target = "/"
	}
	if query != "" {
		target += "?" + query
	}
	return fmt.Sprintf("%q %q %q", scheme, host, target)
}

// cut takes a text apart at two places into host, path and query, so that the fuzzer can let the delimiters of one request fall
// into the values of another.
func cut(text string, first, second uint8) (host, path, query string) {
	i := min(int(first), len(text))
	j := min(i+int(second), len(text))
	return text[:i], text[i:j], strings.TrimPrefix(text[j:], "?")
}

func FuzzKey(f *testing.F) {
	f.Add(false, "a/b/c?q", "", uint8(1), uint8(4), uint8(3), uint8(2), "x", "x", "c=1", "c=1")
	f.Add(false, "A:80/c", "a/c", uint8(4), uint8(9), uint8(1), uint8(9), "", "", "", "")
	f.Add(true, "[::1]:443?b&a", "[::1]/?b&a", uint8(9), uint8(0), uint8(5), uint8(1), "x", "x", "c", "c;c=")
	f.Add(false, "ab", "", uint8(1), uint8(9), uint8(2), uint8(0), "1", "", "", "")
	f.Add(false, "a/?x", "", uint8(1), uint8(9), uint8(1), uint8(1), "1", "", "", "")
	f.Add(true, "a%2fb#@c", "", uint8(1), uint8(9), uint8(7), uint8(1), "1", "", "", "")
	plain, keyed := &KeyRule{}, keyRule(f, KeySpec{Headers: []string{"X-Lang"}, Cookies: []string{"c"}})
	filtered := keyRule(f, KeySpec{Query: QuerySpec{Ignore: []string{"u*"}, Sort: true}})
	f.Fuzz(func(t *testing.T, tls bool, text1, text2 string, i1, j1, i2, j2 uint8, lang1, lang2, cookie1, cookie2 string) {
		if text2 == "" {
			text2 = text1
		}
		scheme := map[bool]string{false: "http", true: "https"}[tls]
		host1, path1, query1 := cut(text1, i1, j1)
		host2, path2, query2 := cut(text2, i2, j2)
		one, two := forwarded(scheme, host1, path1, query1), forwarded(scheme, host2, path2, query2)
		h1, h2 := http.Header{"X-Lang": {lang1}, "Cookie": {cookie1}}, http.Header{"X-Lang": {lang2}, "Cookie": {cookie2}}

		a := plain.Key(scheme, host1, path1, query1, h1, nil)
		b := plain.Key(scheme, host2, path2, query2, h2, nil)
		if (a == b) != (one == two) {
			t.Errorf("%s and %s have the keys %q and %q", one, two, a, b)
		}
		a = keyed.Key(scheme, host1, path1, query1, h1, nil)
		b = keyed.Key(scheme, host2, path2, query2, h2, nil)
		cookies1, cookies2 := cookieValues([]string{cookie1}, "c"), cookieValues([]string{cookie2}, "c")
		if a == b && (one != two || lang1 != lang2 || !slices.Equal(cookies1, cookies2)) {
			t.Errorf("%s %q %q and %s %q %q share the key %q", one, lang1, cookie1, two, lang2, cookie2, a)
		}
		if other := map[string]string{"http": "https", "https": "http"}[scheme]; plain.Key(other, host1, path1, query1, nil, nil) == b {
			t.Errorf("%s has the same key with %s", one, other)
		}
		if url := plain.Key("http", host1, "/", "", nil, nil).URL; strings.Count(url, "/") != 3 {
			t.Errorf("host %q leaves its place: %q", host1, url)
		}
		fuzzForwardQuery(t, filtered, query1)
	})
}

// fuzzForwardQuery: forwarding is idempotent, invents nothing, and leaves nothing of an ignored name.
func fuzzForwardQuery(t *testing.T, k *KeyRule, query string) {
	out := k.ForwardQuery(query)
	if again := k.ForwardQuery(out); again != out {
		t.Errorf("%q becomes %q becomes %q", query, out, again)
	}
	left := map[string]int{}
	for _, p := range strings.Split(query, "&") {
		left[p]++
	}
	for _, p := range strings.Split(out, "&") {
		if left[p]--; p != "" && left[p] < 0 {
			t.Errorf("%q was not in %q", p, query)
		}
		name, _, _ := strings.Cut(p, "=")
		decoded, err := url.QueryUnescape(name)
		if strings.HasPrefix(name, "u") || err == nil && strings.HasPrefix(decoded, "u") {
			t.Errorf("%q is left of %q", p, query)
		}
	}
}

func TestKeyAllocations(t *testing.T) {
	k := keyRule(t, KeySpec{Query: QuerySpec{Ignore: []string{"utm_*"}}})
	for _, host := range []string{"shop.example", "Shop.Example:80"} {
		if n := testing.AllocsPerRun(100, func() { k.Key("http", host, "/api/products/17", "page=2", nil, nil) }); n > 1 {
			t.Errorf("%s: %v allocations", host, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { DefaultRule.Key.ForwardQuery("b=1&a=2") }); n != 0 {
		t.Errorf("ForwardQuery: %v allocations where nothing is asked", n)
	}
}

func BenchmarkKey(b *testing.B) {
	header := http.Header{"X-Lang": {"de"}, "Cookie": {"a=b; role=admin; c=d"}}
	for _, bb := range []struct {
		name string
		rule KeySpec
	}{
		{"plain", KeySpec{}},
		{"extras", KeySpec{Headers: []string{"X-Lang"}, Cookies: []string{"role"}}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			k := keyRule(b, bb.rule)
			b.ReportAllocs()
			for b.Loop() {
				k.Key("https", "shop.example:443", "/api/products/17", "page=2", header, nil)
			}
		})
	}
}

func BenchmarkForwardQuery(b *testing.B) {
	k := keyRule(b, KeySpec{Query: QuerySpec{Ignore: []string{"utm_*", "fbclid"}, Sort: true}})
	for name, query := range map[string]string{"kept": "a=1&b=2&c=3", "changed": "utm_source=x&b=2&a=1&fbclid=yyyy"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k.ForwardQuery(query)
			}
		})
	}
}
