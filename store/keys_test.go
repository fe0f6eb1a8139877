package store

import (
	"strings"
	"testing"

	"cacheproxy/policy"
)

func TestKeys(t *testing.T) {
	head := "http://a.example/" + strings.Repeat("x", maxKeyURL-len("http://a.example/"))
	for url, want := range map[string]string{
		"http://a.example/p?q=%20&r={x}": "http://a.example/p?q=%20&r=%7Bx%7D",
		"http://a.example/\x00\x1f\x7f":  "http://a.example/%00%1F%7F",
		"http://a.example/%7B%7b%zz%":    "http://a.example/%257B%7b%zz%",
		"http://a.example/%0A%257D%20":   "http://a.example/%250A%25257D%20",
		"http://a.example/\xc3\xa9*[]^":  "http://a.example/\xc3\xa9*[]^",
		head:                             head,
	} {
		keys := newKeyspace("cp").of(url)
		if got := "cp:v:{" + want + "}"; keys.root != got {
			t.Errorf("%q: root %q, want %q", url, keys.root, got)
		}
		if got := "cp:e:{" + want + "}:abc"; keys.entryKey("abc") != got {
			t.Errorf("%q: entry %q, want %q", url, keys.entryKey("abc"), got)
		}
	}
	long := newKeyspace("cp").of(head + "y").root
	name := strings.TrimSuffix(strings.TrimPrefix(long, "cp:v:{"), "}")
	if len(name) != maxKeyURL+1+2*hashLen || !strings.HasPrefix(name, head+"~") {
		t.Errorf("long: %q", long)
	}
	if long == newKeyspace("cp").of(head+"z").root {
		t.Error("two long URLs have one key")
	}
}

func TestVariantsAreDistinct(t *testing.T) {
	seen := make(map[string][3]string)
	parts := []string{"", "a", "b", "ab", "\x00", "aa"}
	for _, extras := range parts {
		for _, nomination := range parts {
			for _, selection := range parts {
				v := variantOf(extras, policy.Nomination(nomination), []byte(selection))
				if other, ok := seen[v]; ok || len(v) != 32 {
					t.Errorf("%q has %s, as %q", [3]string{extras, nomination, selection}, v, other)
				}
				seen[v] = [3]string{extras, nomination, selection}
			}
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, prefix := range []string{"", "a{b", "a}", "a*", "a?", "[a]", "a b", "a\n", "a\x00", `a\`, "a^", "\x7f"} {
		if err := checkPrefix(prefix); err == nil || !strings.Contains(err.Error(), "`redis.prefix`") {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"cp", "shop:cp", "a-b.c/d", "é"} {
		if err := checkPrefix(prefix); err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// FuzzKeys holds the encoding of URLs to what the schema needs: nothing in it ends the hash tag or the line, and no two
// URLs share a key (a long one's head and hash apart, what stands there can be decoded).
func FuzzKeys(f *testing.F) {
	f.Add("http://a.example/{x}", "http://a.example/%7Bx%7D")
	f.Add("%7B", "%257B")
	f.Add("%%7B7B", "%25{")
	f.Add(strings.Repeat("{", 400), strings.Repeat("%7B", 400))
	f.Fuzz(func(t *testing.T, a, b string) {
		ka, kb := string(appendKeyURL(nil, a)), string(appendKeyURL(nil, b))
		if (a == b) != (ka == kb) {
			t.Fatalf("%q and %q: %q and %q", a, b, ka, kb)
		}
		for i := range len(ka) {
			if isEncoded(ka[i]) {
				t.Fatalf("%q: %q", a, ka)
			}
		}
		switch {
		case len(ka) > maxKeyURL:
			if len(ka) != maxKeyURL+1+2*hashLen {
				t.Fatalf("%q: %q", a, ka)
			}
		case decodeKeyURL(ka) != a:
			t.Fatalf("%q: %q decodes to %q", a, ka, decodeKeyURL(ka))
		}
	})
}

// decodeKeyURL undoes appendKeyURL where nothing was cut.
func decodeKeyURL(key string) string {
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		if key[i] == '%' && isOurEscape(key[i+1:]) {
			b.WriteByte(byte(strings.IndexByte(upperHex, key[i+1])<<4 | strings.IndexByte(upperHex, key[i+2])))
			i += 2
			continue
		}
		b.WriteByte(key[i])
	}
	return b.String()
}
