package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/redistest"
)

// What is asked of Redis is no more than a purge may select, where that can be said.
func TestPatternsOf(t *testing.T) {
	keys := newKeyspace("cp")
	hex := strings.Repeat("?", 32)
	long := strings.Repeat("x", 1100)
	for _, c := range []struct {
		selector string
		want     []string
	}{
		{"http://a.example/x", []string{"cp:e:{http://a.example/x}:*"}},
		{"http://a.example/*", []string{"cp:e:{http://a.example/*}:*", "cp:e:{http://a.example/*~" + hex + "}:*"}},
		{"a.example/x", []string{"cp:e:{*a.example/x}:*", "cp:e:{*~" + hex + "}:*"}},
		{"http://a/**?*?[ab]y", []string{"cp:e:{http://a/???*y}:*", "cp:e:{http://a/*~" + hex + "}:*"}},
		{`http://a/\*[`, []string{`cp:e:{http://a/\*?*}:*`, `cp:e:{http://a/\**~` + hex + "}:*"}},
		{"http://a/{1}^%4", []string{`cp:e:{http://a/%7B1%7D\^%*4}:*`, `cp:e:{http://a/%7B1%7D\^%*~` + hex + "}:*"}},
		{`http://a/\`, []string{`cp:e:{http://a/\\}:*`}},
		{"http://a/" + long, []string{"cp:e:{*~" + hex + "}:*"}},
		{"http://a/" + strings.Repeat("?a", 101), []string{"cp:e:{http://a/*}:*", "cp:e:{http://a/*~" + hex + "}:*"}},
	} {
		got := keys.patternsOf(&invalidation.Record{Purge: invalidation.Purge{Kind: invalidation.KindPattern, Selector: c.selector}})
		if !slices.Equal(got, c.want) {
			t.Errorf("%.60s: %q", c.selector, got)
		}
	}
	if got := keys.patternsOf(&invalidation.Record{Purge: invalidation.Purge{Kind: invalidation.KindAll}}); !slices.Equal(got, []string{"cp:e:{*"}) {
		t.Errorf("everything: %q", got)
	}
}

// Whatever URL a purge by pattern selects, Redis returns the key of its entries for one of the patterns.
func FuzzPatternsOf(f *testing.F) {
	long := "http://a.example/" + strings.Repeat("{x%7B}", 300)
	for _, c := range [][2]string{
		{"http://a.example/*", "http://a.example/x"}, {"*/x", "https://a/x"}, {"a.example/*", "http://a.example/x"}, {"http://a/{?}", "http://a/{\x01}"},
		{"http://a/%7B", "http://a/%7B"}, {"http://a/%*", "http://a/%25%00"}, {`http://a/[^x]\[\*`, "http://a/{[*"}, {"*[{}]*", long}, {"*~*", long},
		{"*x%7B}", long}, {"http://a/[", "http://a/["}, {`http://a/\`, `http://a/\`}, {"http://a/[]*", "http://a/[]"}, {"http://a/" + strings.Repeat("?a", 150), "http://a/" + strings.Repeat("{a", 150)},
		{strings.Repeat("%", 200) + "*", strings.Repeat("%", 200) + "7B"}, {"http://*~" + strings.Repeat("?", 32), long}, {"*://a", "x://a"}, {"a", "a"}, {"[^a]", "%"},
	} {
		f.Add(c[0], c[1])
	}
	client := redistest.Start(f).Admin()
	keys := newKeyspace("c-p")
	f.Fuzz(func(t *testing.T, pattern, url string) {
		record := invalidation.Record{Purge: invalidation.Purge{Kind: invalidation.KindPattern, Selector: pattern}}
		if _, err := invalidation.CompileGlob(pattern); err != nil || !record.Selects(&invalidation.Subject{URL: url}) {
			return
		}
		key := keys.of(url).entryKey(strings.Repeat("0", 32))
		var replies []*redis.ScanCmd
		_, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			pipe.Set(t.Context(), key, 1, 0)
			for _, p := range keys.patternsOf(&record) {
				replies = append(replies, pipe.Scan(t.Context(), 0, p, 10))
			}
			pipe.Del(t.Context(), key)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		finds := func(reply *redis.ScanCmd) bool {
			found, _ := reply.Val()
			return len(found) == 1 && found[0] == key
		}
		if !slices.ContainsFunc(replies, finds) {
			t.Errorf("%.200q selects %.200q, but %.200q is found by none of %.200q", pattern, url, key, keys.patternsOf(&record))
		}
	})
}
