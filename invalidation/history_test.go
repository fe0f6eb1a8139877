package invalidation

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

func sequences(list []*Event) (all []Seq) {
	for _, r := range list {
		all = append(all, r.Seq)
	}
	return all
}

func TestHistory(t *testing.T) {
	server := redistest.StartSettled(t)
	here, err := Start(Options{Instance: "alone"})
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close(t.Context())
	for name, f := range map[string]*Follower{"in Redis": newFleet(t, server.URL, 2)[0], "in this process": here} {
		t.Run(name, func(t *testing.T) {
			if list, err := f.History(t.Context(), 10, 0); err != nil || len(list) != 0 {
				t.Errorf("before any purge: %v, %v", list, err)
			}
			asked := Purge{Kind: KindTag, Tags: []string{"a", "b"}, MatchAll: true, Soft: true, Who: "me", Filters: Filters{Status: []int{4}, OlderThan: time.Minute}}
			var newestFirst []Seq
			for range 3 {
				newestFirst = append([]Seq{purge(t, f, asked, limit).Sequence}, newestFirst...)
			}
			for _, n := range []int{1, 2, 3, 10} {
				list, err := f.History(t.Context(), n, 0)
				if want := newestFirst[:min(n, 3)]; err != nil || !slices.Equal(sequences(list), want) {
					t.Errorf("%d: %v, %v, want %v", n, sequences(list), err, want)
				}
			}
			r, err := f.Recorded(t.Context(), newestFirst[1])
			if err != nil || r == nil {
				t.Fatal(r, err)
			}
			asked.Filters.StoredBefore = r.Filters.StoredBefore
			if before := int64(r.Seq) - time.Minute.Microseconds(); !reflect.DeepEqual(r.Purge, asked) || r.Filters.StoredBefore > before || r.Filters.StoredBefore < before-limit.Microseconds() {
				t.Errorf("%+v at %v", r.Purge, r.Seq)
			}
			if got, err := f.Receipt(t.Context(), r.Position()); err != nil || !got.Complete() || got.Sequence != r.Seq || len(got.Applied) == 0 {
				t.Errorf("%+v, %v", got, err)
			}
			if r, err := f.Recorded(t.Context(), newestFirst[1]-1); r != nil || err != nil {
				t.Errorf("a record that is not there: %+v, %v", r, err)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	server := redistest.StartSettled(t)
	fault := server.Fault()
	f := newFleet(t, fault.URL, 1)[0]
	r := purge(t, f, Purge{Kind: KindAll}, limit)
	if s := f.Status(); !s.Registered || s.Applied.Seq != r.Sequence || s.Lag > limit {
		t.Errorf("%+v", s)
	}
	fault.Cut()
	await(t, "behind", func() bool { return f.Status().Lag > 2*beatInterval })
	fault.Heal()
	await(t, "level", func() bool { return f.Status().Lag < 2*beatInterval })
}

// A replica that is not in the list serves all the same: its own receipts name it.
func TestReceiptOfOneThatIsNotRegistered(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 2)
	all[0].cancel() // it will not register again
	all[0].working.Wait()
	server.Admin().HDel(t.Context(), "cp:{inv}:replicas", all[0].ID())
	r := purge(t, all[0], Purge{Kind: KindAll}, 50*time.Millisecond)
	if r.Complete() || !slices.Contains(r.Lagging, all[0].ID()) {
		t.Errorf("%+v", r)
	}
}

// Nothing that Purge takes makes a record that cannot be read: that would stop everybody who follows.
func TestWhatIsAppendedCanBeRead(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 1)
	ages := map[string]time.Duration{"before 1970": 100 * 365 * 24 * time.Hour, "the longest": 1<<63 - 1, "the shortest": time.Microsecond}
	for name, age := range ages {
		m := all[0].Table().Mark()
		r := purge(t, all[0], Purge{Kind: KindAll, Filters: Filters{OlderThan: age}}, limit)
		if !r.Complete() {
			t.Errorf("%s: %+v", name, r)
		}
		young := &Subject{URL: "http://a.example/", StoredAt: int64(r.Sequence), BodyAsOf: m.Seq}
		if v := all[0].Table().Judge(young, m.Number); v.Verdict != Keeps {
			t.Errorf("%s: what was stored just now is %v", name, v)
		}
	}
	long := make([]byte, maxTag)
	for i := range long {
		long[i] = 0xff
	}
	for _, p := range []Purge{
		{Kind: KindTag, Tags: []string{string(long)}},
		{Kind: KindURL, Selector: "http://a.example/\xff"},
		{Kind: KindAll, Who: "\xff"},
		{Kind: KindURL, URLs: []string{"http://a.example/", "http://a.example/\xff"}},
		{Kind: KindAll, Filters: Filters{ContentType: []string{""}}},
		{Kind: KindAll, Filters: Filters{OlderThan: 500}},
	} {
		if r, err := all[0].Purge(t.Context(), p, 0); err == nil {
			t.Errorf("%+v: %+v", p, r)
		}
	}
}

func TestNothingAppended(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	fails := func(what string, certain bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if r, err := f.Purge(ctx, Purge{Kind: KindAll}, 0); err == nil || r != nil || f.NothingAppended(err) != certain {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	admin := server.Admin()
	before := admin.XLen(t.Context(), "cp:{inv}:log").Val()
	admin.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1")
	fails("a replica", true)
	admin.Do(t.Context(), "REPLICAOF", "NO", "ONE")
	if n := admin.XLen(t.Context(), "cp:{inv}:log").Val(); n != before {
		t.Errorf("%d records, before %d", n, before)
	}
	admin.Del(t.Context(), "cp:{inv}:sweeps")
	admin.Set(t.Context(), "cp:{inv}:sweeps", "no list", 0)
	fails("appended, and the script failed after that", false)
	server.Pause()
	fails("stopped", false)
	server.Resume()
	server.Kill()
	fails("gone", true)
}

func TestStartNeedsAClientThatWaits(t *testing.T) {
	server := redistest.StartSettled(t)
	if f, err := Start(Options{Redis: client(t, server.URL()), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error(f)
	}
}

// After Redis was stopped for a while everybody seems silent; who asks is not, and waits for itself.
func TestReceiptAfterRedisWasSilent(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	f.cancel() // as if its heartbeats did not come through
	f.working.Wait()
	await(t, "silent", func() bool {
		list, err := f.Replicas(t.Context())
		return err == nil && list[0].Silent
	})
	if r := purge(t, f, Purge{Kind: KindAll}, 0); !slices.Equal(r.Lagging, []string{f.ID()}) {
		t.Errorf("%+v", r)
	}
}

// The history goes on where the log ends, page by page, without what nobody has asked for, and for long records with their begin.
func TestHistoryBeyondTheLog(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1, func(o *Options) { o.Horizon = time.Second })[0]
	f.Sweep(nothingToSweep{})
	var want []Seq // the newest first
	for i := range 5 {
		p := Purge{Kind: KindTag, Tags: []string{fmt.Sprint("tag-", i)}, Who: "me"}
		if i == 3 {
			for range maxTags - 1 {
				p.Tags = append(p.Tags, strings.Repeat("é", maxTag/2))
			}
		}
		want = append([]Seq{purge(t, f, p, limit).Sequence}, want...)
	}
	passing := purge(t, f, Purge{Kind: KindAll, Passing: true}, limit).Sequence
	if e, err := f.Recorded(t.Context(), passing); err != nil || e == nil || !e.Passing {
		t.Errorf("%+v, %v", e, err)
	}
	want = append([]Seq{purge(t, f, Purge{Kind: KindURL, Selector: "http://a.example/", Who: "me"}, limit).Sequence}, want...)
	await(t, "trimmed", func() bool { return server.Admin().XLen(t.Context(), "cp:{inv}:log").Val() == 1 })
	if e, err := f.Recorded(t.Context(), passing); err != nil || e != nil {
		t.Errorf("%+v, %v", e, err)
	}
	for _, n := range []int{1, 2, 4, 6, 10} {
		var got []Seq
		for below := Seq(0); ; {
			list, err := f.History(t.Context(), n, below)
			if err != nil || len(list) > n {
				t.Fatalf("%d, %v", len(list), err)
			}
			got = append(got, sequences(list)...)
			if len(list) < n {
				break
			}
			below = list[n-1].Seq
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %v, want %v", n, got, want)
		}
	}
	long, err := f.Recorded(t.Context(), want[2])
	if err != nil || !long.Shortened || long.Tags[0] != "tag-3" || len(long.Tags) < 2 || len(long.Tags) > 10 || long.Who != "me" {
		t.Errorf("%+v, %v", long, err)
	}
}

// A log that begins anew goes on behind the history, whatever the clock says: a sequence names one purge.
func TestHistoryOfALogThatWasLost(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	future := Seq(time.Now().Add(time.Hour).UnixMicro())
	admin := server.Admin()
	admin.XAdd(t.Context(), &redis.XAddArgs{Stream: "cp:{inv}:history", ID: future.String() + "-0", Values: []string{"e", "1", "b", "0", "r", `{"kind":"all"}`, "o", ""}})
	if r := purge(t, f, Purge{Kind: KindAll}, limit); r.Sequence <= future || !r.Complete() {
		t.Errorf("%+v", r)
	}
	if e, err := f.Recorded(t.Context(), future); err != nil || !e.Past || e.Outcome.Over() {
		t.Errorf("%+v, %v", e, err)
	}
}

// What a later version has left in the history, and cannot be read here, hides nothing else.
func TestHistoryOfALaterVersion(t *testing.T) {
	server := redistest.Start(t)
	f := newFleet(t, server.URL, 1)[0]
	add := func(id int, values ...string) {
		server.Admin().XAdd(t.Context(), &redis.XAddArgs{Stream: "cp:{inv}:history", ID: fmt.Sprint(id, "-0"), Values: append([]string{"e", "1", "b", "0"}, values...)})
	}
	add(1, "r", `{"kind":"all"}`, "o", "")
	add(2, "r", `{"kind":"nextyear"}`, "o", "")
	add(3, "r", `{"kind":"all"}`, "o", `{"passes":"many"}`)
	list, err := f.History(t.Context(), 2, 0)
	if err != nil || !slices.Equal(sequences(list), []Seq{3, 1}) {
		t.Errorf("%v, %v", sequences(list), err)
	}
	if e, err := f.Recorded(t.Context(), 2); err != nil || e != nil {
		t.Errorf("%+v, %v", e, err)
	}
}

// A record is about as large as what it names.
func TestEncodedIsNoLonger(t *testing.T) {
	p := Purge{Kind: KindURL, URLs: []string{"http://a.example/?" + strings.Repeat("a&<", 1000)}}
	text, err := p.encode()
	if got, err2 := decodePurge(text); err != nil || err2 != nil || !slices.Equal(got.URLs, p.URLs) || len(text) > len(p.URLs[0])+100 {
		t.Errorf("%d bytes of %d, %v, %v", len(text), len(p.URLs[0]), err, err2)
	}
}

// What is kept of a record is bounded, whatever it is.
func TestRecorded(t *testing.T) {
	tags := make([]string, maxTags)
	for i := range tags {
		tags[i] = strings.Repeat("é", maxTag/2)
	}
	for _, p := range []Purge{
		{Kind: KindURL, Selector: "http://a.example/" + strings.Repeat("é", 4000)},
		{Kind: KindPattern, Selector: strings.Repeat("<", maxSelector)},
		{Kind: KindAll, Filters: Filters{ContentType: slices.Repeat([]string{strings.Repeat("t", maxType)}, maxFilters)}},
		{Kind: KindTag, Tags: tags},
		{Kind: KindGroup, Origin: "http://" + strings.Repeat("a", 4000), Group: strings.Repeat("g", maxTag)},
	} {
		text, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		short := recorded(text)
		got, err := decodePurge(short)
		if err != nil || got.Kind != p.Kind || len(short) > 8*maxRecorded || !strings.HasPrefix(p.Selector, got.Selector) {
			t.Errorf("%s: %d bytes, %v", p.Kind, len(short), err)
		}
	}
	if text := `{"kind":"all","who":"me"}`; recorded(text) != text {
		t.Error(recorded(text))
	}
	for _, text := range []string{"", "{", `{"kind":"all","passing":true}`} {
		if got := recorded(text); got != "" {
			t.Errorf("%s: %s", text, got)
		}
	}
}
