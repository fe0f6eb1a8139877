package limiter

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func netipFrom16(b [16]byte) netip.Addr { return netip.AddrFrom16(b) }

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

func keyOf(t testing.TB, parts []string, change func(*Asker)) string {
	t.Helper()
	l := &Limiter{opt: Options{IPv6Prefix: 64}}
	m := newLimit(l, &Spec{Name: "x", Key: parts, Secret: []string{"x-hidden"}, Limit: 1, Window: time.Hour})
	a := &Asker{Request: httptest.NewRequest(http.MethodGet, "http://Shop.example/x", nil), Client: netip.MustParseAddr("192.0.2.7"), Rule: "default/3"}
	if change != nil {
		change(a)
	}
	return string(m.appendKey(nil, a))
}

func TestKeys(t *testing.T) {
	field := func(name string, values ...string) func(*Asker) {
		return func(a *Asker) { a.Request.Header[name] = values }
	}
	for _, c := range []struct {
		parts  string
		change func(*Asker)
		want   string
	}{
		{"client", nil, "192.0.2.7"},
		{"client", func(a *Asker) { a.Client = netip.MustParseAddr("2001:db8::1%eth0") }, "2001%3Adb8%3A%3A1"},
		{"client", func(a *Asker) { a.Client = netip.Addr{} }, ""},
		{"host", nil, "shop.example"},
		{"host", func(a *Asker) { a.Host = "other.example" }, "other.example"},
		{"method rule", nil, "GET,default%2F3"},
		{"client header.Tier", field("Tier", "gold"), "192.0.2.7,gold"},
		{"client header.tier", field("Tier", "a", "b"), "192.0.2.7,a%2C%20b"},
		{"header.Tier", nil, "-192.0.2.7"},
		{"header.Tier", field("Tier", ""), "-192.0.2.7"},
		{"api_key", field("X-Api-Key", ""), "-192.0.2.7"},
		{"api_key", field("X-Api-Key", "secret", "random"), "-192.0.2.7"},
		{"api_key", field("Authorization", "Bearer random", "Bearer secret"), "-192.0.2.7"},
		{"api_key", field("Authorization", "Bearer\tsecret"), "~2bb80d537b1da3e38bd30361aa855686"},
		{"api_key", func(a *Asker) {
			a.Request.Header = http.Header{"X-Api-Key": {"random"}, "Authorization": {"Bearer secret"}}
		}, "-192.0.2.7"},
		{"api_key", func(a *Asker) {
			a.Request.Header = http.Header{"X-Api-Key": {"secret"}, "Authorization": {"Basic secret"}}
		}, "~2bb80d537b1da3e38bd30361aa855686"},
		{"api_key", field("Authorization", "Bearer"), "-192.0.2.7"},
		{"header.Tier", field("Tier", "-192.0.2.7"), "%2D192.0.2.7"},
		{"header.Tier", field("Tier", "~overflow"), "%7Eoverflow"},
		{"header.Tier", field("Tier", "{a}:b\x00\xff"), "%7Ba%7D%3Ab%00%FF"},
		{"header.Tier", field("Tier", strings.Repeat("x", 64)), strings.Repeat("x", 64)},
		{"header.Tier", field("Tier", strings.Repeat("x", 65)), "~9537c5fdf120482f7d58d25e9ed583f5"},
		{"header.X-Hidden", field("X-Hidden", "secret"), "~2bb80d537b1da3e38bd30361aa855686"},
		{"header.Authorization", field("Authorization", "secret"), "~2bb80d537b1da3e38bd30361aa855686"},
		{"api_key", field("X-Api-Key", "secret"), "~2bb80d537b1da3e38bd30361aa855686"},
		{"api_key", field("Authorization", "bearer  secret "), "~2bb80d537b1da3e38bd30361aa855686"},
		{"api_key", field("Authorization", "Basic secret"), "-192.0.2.7"},
		{"api_key", nil, "-192.0.2.7"},
		{"cookie.id", field("Cookie", "a=b; id=secret; id=other"), "~2bb80d537b1da3e38bd30361aa855686"},
		{"cookie.id", field("Cookie", "a=b", "id=secret"), "~2bb80d537b1da3e38bd30361aa855686"},
		{"cookie.id", field("Cookie", "xid=secret"), "-192.0.2.7"},
	} {
		if got := keyOf(t, strings.Fields(c.parts), c.change); got != c.want {
			t.Errorf("%s: %q, want %q", c.parts, got, c.want)
		}
	}
}

// No two requests share a key unless all that it names is the same, whatever bytes they have.
func FuzzKeys(f *testing.F) {
	f.Add("a", "b", "a,b", "")
	f.Add("-192.0.2.7", "", "~", "%7E")
	f.Add("{", "}", ":", "\x00\xff")
	f.Add(strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("\x00", 30), "~9537c5fdf120482f7d58d25e9ed583f5")
	f.Fuzz(func(t *testing.T, a1, a2, b1, b2 string) {
		key := func(one, two string) string {
			return keyOf(t, []string{"header.One", "header.Two"}, func(a *Asker) {
				a.Request.Header["One"], a.Request.Header["Two"] = []string{one}, []string{two}
			})
		}
		a, b := key(a1, a2), key(b1, b2)
		if same := a1 == b1 && a2 == b2; same != (a == b) {
			t.Errorf("%q and %q: %q and %q", []string{a1, a2}, []string{b1, b2}, a, b)
		}
		if strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%~,") != "" || len(a) > 2*maxPart+2 {
			t.Errorf("%q", a)
		}
		if without := keyOf(t, []string{"header.One", "header.Two"}, func(a *Asker) { a.Request.Header["One"] = []string{a1} }); (without == a) != (a2 == "") {
			t.Errorf("%q is of a request without a field too", without)
		}
	})
}

// Clients of one IPv6 network are one, and an operator names them by any address of it.
func TestKeyOfAnAddress(t *testing.T) {
	r := newReplica(t, "", nil, Spec{Name: "per-client", Limit: 5, Window: time.Hour}, Spec{Name: "tier", Key: []string{"header.Tier"}, Limit: 5, Window: time.Hour})
	for _, c := range []struct{ name, text, want string }{
		{"per-client", "192.0.2.7", "192.0.2.7"}, {"per-client", "::ffff:192.0.2.7", "192.0.2.7"}, {"per-client", "2001:db8::1:2:3", "2001%3Adb8%3A%3A"},
		{"per-client", "2001%3Adb8%3A%3A", "2001%3Adb8%3A%3A"}, {"per-client", "gold", "gold"}, {"tier", "192.0.2.7", "192.0.2.7"}, {"tier", "::1", "::1"},
	} {
		if got := r.Current().find(c.name).keyOf(c.text); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, c.text, got, c.want)
		}
	}
}
