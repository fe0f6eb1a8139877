package invalidation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// purges of each kind that select the subject below, and ones that do not.
var subject = Subject{
	URL: "https://shop.example/a?b", Status: 404, ContentType: "Text/HTML; charset=utf-8", Size: 1000, StoredAt: 5000,
	Tags: []string{"x", "y"}, Groups: []string{"g"},
}

var selections = []struct {
	name    string
	purge   Purge
	selects bool
}{
	{"its URL", Purge{Kind: KindURL, Selector: "https://shop.example/a?b"}, true},
	{"its URL in any scheme", Purge{Kind: KindURL, Selector: "shop.example/a?b"}, true},
	{"another URL", Purge{Kind: KindURL, Selector: "https://shop.example/a"}, false},
	{"one of several URLs", Purge{Kind: KindURL, URLs: []string{"https://shop.example/", "https://shop.example/a?b"}}, true},
	{"others of several URLs", Purge{Kind: KindURL, URLs: []string{"https://shop.example/", "https://shop.example/a"}}, false},
	{"one of several URLs, with a filter", Purge{Kind: KindURL, URLs: []string{"https://a.example/", "https://shop.example/a?b"}, Filters: Filters{MinSize: 1}}, true},
	{"its URL in another scheme", Purge{Kind: KindURL, Selector: "http://shop.example/a?b"}, false},
	{"a pattern", Purge{Kind: KindPattern, Selector: "https://shop.example/*"}, true},
	{"a pattern of any scheme", Purge{Kind: KindPattern, Selector: "shop.*/a[?]b"}, true},
	{"another pattern", Purge{Kind: KindPattern, Selector: "http://*"}, false},
	{"a tag", Purge{Kind: KindTag, Tags: []string{"z", "y"}}, true},
	{"all tags", Purge{Kind: KindTag, Tags: []string{"x", "y"}, MatchAll: true}, true},
	{"all of one tag", Purge{Kind: KindTag, Tags: []string{"x"}, MatchAll: true}, true},
	{"not all tags", Purge{Kind: KindTag, Tags: []string{"x", "z"}, MatchAll: true}, false},
	{"another tag", Purge{Kind: KindTag, Tags: []string{"X"}}, false},
	{"its group", Purge{Kind: KindGroup, Origin: "https://shop.example", Group: "g"}, true},
	{"another origin's group", Purge{Kind: KindGroup, Origin: "http://shop.example", Group: "g"}, false},
	{"another group", Purge{Kind: KindGroup, Origin: "https://shop.example", Group: "h"}, false},
	{"everything", Purge{Kind: KindAll}, true},
	{"of its status", Purge{Kind: KindAll, Filters: Filters{Status: []int{200, 404}}}, true},
	{"of its class of status", Purge{Kind: KindAll, Filters: Filters{Status: []int{4}}}, true},
	{"of another status", Purge{Kind: KindAll, Filters: Filters{Status: []int{200, 5}}}, false},
	{"of its type", Purge{Kind: KindAll, Filters: Filters{ContentType: []string{"text/html"}}}, true},
	{"of its kind of type", Purge{Kind: KindAll, Filters: Filters{ContentType: []string{"text/*"}}}, true},
	{"of another type", Purge{Kind: KindAll, Filters: Filters{ContentType: []string{"image/*"}}}, false},
	{"stored before", Purge{Kind: KindAll, Filters: Filters{StoredBefore: 5001}}, true},
	{"stored later", Purge{Kind: KindAll, Filters: Filters{StoredBefore: 5000}}, false},
	{"its size", Purge{Kind: KindAll, Filters: Filters{MinSize: 1000, MaxSize: 1000}}, true},
	{"smaller", Purge{Kind: KindAll, Filters: Filters{MaxSize: 999}}, false},
	{"a group with a filter", Purge{Kind: KindGroup, Origin: "https://shop.example", Group: "g", Filters: Filters{MinSize: 1}}, true},
}

// A scheme stands at the begin; what is further behind is of a path or a query.
func TestHasScheme(t *testing.T) {
	for selector, want := range map[string]bool{
		"https://shop.example/": true, "HTTP://a": true, "*://a/*": true, "http?://a": true, "http[s]://a": true, "svn+ssh2://a": true,
		"": false, "shop.example/": false, "shop.example:80//": false, "shop.example/go?u=https://*": false, "shop.example?u=http://a": false,
		"*/redirect/https://a.example/": false, "*.example/*://*": false,
	} {
		if HasScheme(selector) != want {
			t.Errorf("%q: %v", selector, !want)
		}
	}
}

func TestSelections(t *testing.T) {
	for _, tt := range selections {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.purge.Check(); err != nil {
				t.Fatal(err)
			}
			for _, soft := range []bool{false, true} {
				table := NewTable()
				purge := tt.purge
				purge.Soft = soft
				table.Apply(&Record{Purge: purge, Seq: 20})
				want := Keeps
				if tt.selects {
					want = map[bool]Verdict{false: Forgotten, true: Stale}[soft]
				}
				before, after := subject, subject
				before.BodyAsOf, before.ValidAsOf = 10, 10
				after.BodyAsOf, after.ValidAsOf = 20, 20
				if j := table.Judge(&before, 0); j.Verdict != want || j.UpTo != table.Head() || want == Stale && j.Soft != 20 {
					t.Errorf("soft %v, fetched before: %+v, want %v", soft, j, want)
				}
				if v := table.Judge(&after, 0); v.Verdict != Keeps {
					t.Errorf("soft %v, fetched after: %v", soft, v)
				}
				table.Forget(20)
				if v := table.Judge(&before, 0); v.Verdict != Keeps || table.Len() != 0 || len(table.names)+len(table.listed) != 0 || table.Floor() != table.Head() {
					t.Errorf("soft %v, forgotten: %v, %+v", soft, v, table)
				}
			}
		})
	}
}

// A body that was validated after a soft purge is fresh, one that was only validated after a hard one is still forgotten.
func TestTwoSequences(t *testing.T) {
	table := NewTable()
	table.Apply(&Record{Purge: Purge{Kind: KindAll, Soft: true}, Seq: 10})
	s := subject
	s.BodyAsOf, s.ValidAsOf = 5, 10
	if v := table.Judge(&s, 0); v.Verdict != Keeps {
		t.Errorf("validated since the soft purge: %v", v)
	}
	table.Apply(&Record{Purge: Purge{Kind: KindAll}, Seq: 20})
	s.ValidAsOf = 20
	if v := table.Judge(&s, 0); v.Verdict != Forgotten {
		t.Errorf("validated since the hard purge: %v", v)
	}
}

// Whatever is asked of a table, maps, list and forgetting included, is what looking at all records one by one says.
func TestTableIsWhatTheRecordsSay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		table := NewTable()
		var all []*Record
		for seq := Seq(1); seq <= 30; seq++ {
			r := &Record{Purge: selections[random.IntN(len(selections))].purge, Seq: seq}
			r.Soft = random.IntN(2) == 0
			table.Apply(r)
			all = append(all, r)
			if random.IntN(5) == 0 {
				floor := Seq(random.IntN(int(seq)))
				table.Forget(floor)
				all = slices.DeleteFunc(all, func(r *Record) bool { return r.Seq <= floor })
			}
			s := subject
			s.BodyAsOf = Seq(random.IntN(int(seq) + 1))
			s.ValidAsOf = s.BodyAsOf + Seq(random.IntN(int(seq-s.BodyAsOf)+1))
			want := Keeps
			for _, r := range all {
				glob, _ := CompileGlob(r.Selector)
				switch about := (&listed{numbered{r, 0}, glob}).selects(&s); {
				case about && !r.Soft && r.Seq > s.BodyAsOf:
					want = Forgotten
				case about && r.Soft && r.Seq > s.ValidAsOf && want == Keeps:
					want = Stale
				}
			}
			if got := table.Judge(&s, 0); got.Verdict != want || got.UpTo != table.Head() {
				t.Fatalf("%+v, want %v", got, want)
			}
		}
	}
}

// A second look looks at what came since, and only at that.
func TestJudgeSince(t *testing.T) {
	table := NewTable()
	s := subject
	table.Apply(&Record{Purge: Purge{Kind: KindPattern, Selector: "*"}, Seq: 10})
	j := table.Judge(&s, 0)
	if j.Verdict != Forgotten {
		t.Error(j)
	}
	upTo := j.UpTo
	if j = table.Judge(&s, upTo); j.Verdict != Keeps {
		t.Errorf("looked at again: %v", j)
	}
	table.Apply(&Record{Purge: Purge{Kind: KindPattern, Selector: "shop*"}, Seq: 11})
	if j = table.Judge(&s, upTo); j.Verdict != Forgotten {
		t.Errorf("looked at what came since: %v", j)
	}
	table.Doubt(Position{2, 5})
	if table.Floor() != table.Head() || table.Floor() <= upTo || table.Len() != 0 || table.Mark().Position != (Position{2, 5}) {
		t.Errorf("%+v", table)
	}
}

func TestPurgesThatAreWrong(t *testing.T) {
	for want, p := range map[string]Purge{
		"want exactly one of url, urls, pattern, tags, group, all": {},
		"urls are 0: want 1 to 256":                                {Kind: KindURL, URLs: []string{}},
		"urls are 257: want 1 to 256":                              {Kind: KindURL, URLs: slices.Repeat([]string{"http://a.example/"}, 257)},
		"urls have 65540 bytes together: want 65536 at most":       {Kind: KindURL, URLs: []string{"a://" + strings.Repeat("x", MaxURLsSize)}},
		"want either url or urls":                                  {Kind: KindURL, URLs: []string{"http://a.example/"}, Selector: "http://a.example/"},
		"urls go with no all":                                      {Kind: KindAll, URLs: []string{"http://a.example/"}},
		`urls: "a.example/" has no scheme, which a URL by itself may do without, and one of several not`: {Kind: KindURL, URLs: []string{"a.example/"}},
		"url is empty":                                                      {Kind: KindURL},
		"pattern is empty":                                                  {Kind: KindPattern},
		"tags are 0: want 1 to 100":                                         {Kind: KindTag},
		"a tag has 0 bytes: want 1 to 256":                                  {Kind: KindTag, Tags: []string{""}},
		"group has 0 bytes: want 1 to 256":                                  {Kind: KindGroup, Origin: "http://a"},
		`origin is "a": want scheme://host`:                                 {Kind: KindGroup, Origin: "a", Group: "g"},
		"status 600 is neither a status nor the first digit of one":         {Kind: KindAll, Filters: Filters{Status: []int{600}}},
		"older_than, min_size and max_size must not be negative, nor cross": {Kind: KindAll, Filters: Filters{OlderThan: -time.Second}},
		"pattern: more than 32 stars":                                       {Kind: KindPattern, Selector: fmt.Sprintf("%033d", 0) + "*********************************"},
	} {
		if err := p.Check(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// What can be named is what a record of it alone may name.
func TestCanName(t *testing.T) {
	const a = "http://a.example/"
	for _, url := range []string{a, a + "é", a + "?\xe9", a + strings.Repeat("x", MaxURLsSize-len(a)), a + strings.Repeat("x", MaxURLsSize-len(a)+1)} {
		p := Purge{Kind: KindURL, URLs: []string{url}}
		if err := p.Check(); CanName(url) != (err == nil) {
			t.Errorf("%.30q of %d bytes: %v, %v", url, len(url), CanName(url), err)
		}
	}
}

// What lists of URLs make a table remember is bounded by how many URLs they name, however often; and that changes nothing of what the table
// says: to who asks what was purged by others either.
func TestListsOfURLsAreThinned(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	table, mark := NewTable(), Mark{}
	var all []*Record
	url := func(n int) string { return fmt.Sprintf("http://a.example/%d", n) }
	for seq := Seq(1); seq <= 200; seq++ {
		p := Purge{Kind: KindURL, Soft: random.IntN(3) == 0}
		for range 100 {
			p.URLs = append(p.URLs, url(random.IntN(300)))
		}
		r := &Record{Purge: p, Seq: seq}
		all = append(all, r)
		if table.Apply(r); seq == 150 {
			mark = table.Mark()
		}
	}
	if table.urls > 3*300+thinAbove || len(table.names) != 300 {
		t.Errorf("%d mentions of %d URLs", table.urls, len(table.names))
	}
	for n := range 300 {
		s := Subject{URL: url(n), BodyAsOf: 190, ValidAsOf: 195}
		want, others := Keeps, map[Seq]bool{}
		for _, r := range all {
			if !slices.Contains(r.URLs, s.URL) {
				continue
			}
			if !r.Soft && r.Seq > s.BodyAsOf {
				want = Forgotten
			} else if r.Soft && r.Seq > s.ValidAsOf && want == Keeps {
				want = Stale
			}
			if r.Seq > mark.Seq {
				others[r.Seq] = true
			}
		}
		if j := table.Judge(&s, 0); j.Verdict != want {
			t.Errorf("%s: %v, want %v", s.URL, j.Verdict, want)
		}
		for own := mark.Seq; own <= 200; own++ {
			want := len(others) > 1 || len(others) == 1 && !others[own]
			if got := table.SelectedSince(&s, mark, []Seq{own}); got != want {
				t.Fatalf("%s: purged by others than %d: %v, want %v", s.URL, own, got, want)
			}
		}
	}
	if again := table.records(); len(again) == 0 || len(again) > 200 {
		t.Errorf("%d would be appended again", len(again))
	}
	table.Forget(200)
	if len(table.names)+table.urls+table.Len() != 0 {
		t.Errorf("%+v", table)
	}
}

// Forgetting takes time in proportion to what is forgotten, also where it is looked at one by one.
func BenchmarkForgetListed(b *testing.B) {
	for b.Loop() {
		table := NewTable()
		for seq := Seq(1); seq <= 20_000; seq++ {
			table.Apply(&Record{Purge: Purge{Kind: KindPattern, Selector: "*"}, Seq: seq})
		}
		table.Forget(20_000)
	}
}

func BenchmarkApplyURLs(b *testing.B) {
	p := Purge{Kind: KindURL}
	for n := range MaxURLs {
		p.URLs = append(p.URLs, fmt.Sprintf("https://a.example/%d", n))
	}
	table := NewTable()
	b.ReportAllocs()
	for seq := Seq(1); b.Loop(); seq++ {
		table.Apply(&Record{Purge: p, Seq: seq})
		if seq%1000 == 0 {
			table.Forget(seq - 500)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	table := NewTable()
	for seq := Seq(1); seq <= 10_000; seq++ {
		table.Apply(&Record{Purge: Purge{Kind: KindURL, Selector: fmt.Sprintf("https://a.example/%d", seq)}, Seq: seq})
	}
	s := subject
	b.ReportAllocs()
	for b.Loop() {
		if v := table.Judge(&s, 0); v.Verdict != Keeps {
			b.Fatal(v)
		}
	}
}
