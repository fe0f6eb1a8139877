package invalidation

import (
	"context"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// A newer record covers an older one only if nothing that the older one forbids is left by it.
func TestCovers(t *testing.T) {
	pattern := func(change ...func(*Record)) *Record {
		r := &Record{Purge: Purge{Kind: KindPattern, Selector: "a.example/*"}, Epoch: 1}
		for _, f := range change {
			f(r)
		}
		return r
	}
	soft := func(r *Record) { r.Soft = true }
	before := func(at int64) func(*Record) { return func(r *Record) { r.Filters.StoredBefore = at } }
	large := func(r *Record) { r.Filters.MinSize = 10 }
	tags := func(all bool, tags ...string) func(*Record) {
		return func(r *Record) { r.Purge = Purge{Kind: KindTag, Tags: tags, MatchAll: all} }
	}
	for name, tt := range map[string]struct {
		newer, older *Record
		want         bool
	}{
		"the same":             {pattern(), pattern(), true},
		"asked by another":     {pattern(), pattern(func(r *Record) { r.Who = "me" }), true},
		"another pattern":      {pattern(), pattern(func(r *Record) { r.Selector = "b.example/*" }), false},
		"another epoch":        {pattern(), pattern(func(r *Record) { r.Epoch = 2 }), false},
		"hard over soft":       {pattern(), pattern(soft), true},
		"soft over hard":       {pattern(soft), pattern(), false},
		"soft over soft":       {pattern(soft), pattern(soft), true},
		"filtered":             {pattern(large), pattern(), false},
		"with the same filter": {pattern(large), pattern(large), true},
		"whenever, before":     {pattern(), pattern(before(5)), true},
		"before, whenever":     {pattern(before(5)), pattern(), false},
		"before, before later": {pattern(before(5)), pattern(before(6)), false},
		"before later, before": {pattern(before(6)), pattern(before(5)), true},
		"tags":                 {pattern(tags(false, "a", "b")), pattern(tags(false, "a", "b")), true},
		"other tags":           {pattern(tags(false, "a", "b")), pattern(tags(false, "a", "c")), false},
		"all tags, any":        {pattern(tags(true, "a", "b")), pattern(tags(false, "a", "b")), false},
		"passing over asked":   {pattern(func(r *Record) { r.Passing = true }), pattern(), false},
		"asked over passing":   {pattern(), pattern(func(r *Record) { r.Passing = true }), true},
		"lists": {pattern(func(r *Record) { r.Purge = Purge{Kind: KindURL, URLs: []string{"http://a/"}} }),
			pattern(func(r *Record) { r.Purge = Purge{Kind: KindURL, URLs: []string{"http://a/"}} }), false},
	} {
		if tt.newer.covers(tt.older) != tt.want {
			t.Errorf("%s: %v", name, !tt.want)
		}
	}
}

// Of many purges of the same the newest is swept, and does for all of them, both times; their outcome is its outcome, also in the history.
func TestSweepsOfTheSameAreMerged(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1, func(o *Options) { o.Horizon = time.Second })[0]
	same := Purge{Kind: KindPattern, Selector: "a.example/*"}
	var seqs []Seq
	for range 20 {
		seqs = append(seqs, purge(t, f, same, limit).Sequence)
	}
	newest, first := seqs[19], seqs[0]
	softer := same
	softer.Soft = true
	soft := purge(t, f, softer, limit).Sequence
	s := newScripted()
	f.Sweep(s)
	s.await(t, newest)
	s.steps <- Tally{Matched: 3, Swept: 3}
	await(t, "told", func() bool {
		o := outcome(t, f, first)
		return o.State == SweepRunning && o.Merged == newest && o.Swept == 3
	})
	close(s.steps)
	s.await(t, soft)
	for _, seq := range seqs[:19] {
		await(t, "merged", func() bool {
			o := outcome(t, f, seq)
			return o.State == SweepOnce && o.Merged == newest && o.Swept == 3
		})
	}
	purge(t, f, Purge{Kind: KindTag, Tags: []string{"last"}}, limit) // stays in the log
	await(t, "trimmed", func() bool {
		for _, seq := range seqs {
			if e, err := f.Recorded(t.Context(), seq); err != nil || e == nil || !e.Past || e.Outcome.Swept != 3 || (e.Outcome.Merged == 0) != (seq == newest) {
				return false
			}
		}
		return true
	})
	close(s.begun)
	n := 0
	for seq := range s.begun {
		if n++; seq == first {
			t.Error("the first is swept by itself")
		}
	}
	if n > 8 { // three records, twice each, and some whose horizon was over earlier
		t.Errorf("%d more sweeps", n)
	}
}

// A newer one that is not in the log does for nothing, nor one whose sweep was cancelled before it began.
func TestNothingToMergeInto(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	same := Purge{Kind: KindPattern, Selector: "a.example/*"}
	first, second, third := purge(t, f, same, limit).Sequence, purge(t, f, same, limit).Sequence, purge(t, f, same, limit).Sequence
	if got, err := f.Cancel(t.Context(), third, "me"); err != nil || got != CancelOK {
		t.Fatalf("%v, %v", got, err)
	}
	purge(t, f, Purge{Kind: KindTag, Tags: []string{"last"}}, limit)
	server.Admin().XDel(t.Context(), "cp:{inv}:log", second.String()+"-0")
	s := newScripted()
	f.Sweep(s)
	s.await(t, first)
	close(s.steps)
	await(t, "swept", func() bool {
		o := outcome(t, f, first)
		return o.State == SweepOnce && o.Merged == 0
	})
}

// sweeping is a Sweeper that does this.
type sweeping func(*Record)

func (s sweeping) Sweep(_ context.Context, r *Record, _ func(Tally) error) (Tally, error) {
	s(r)
	return Tally{}, nil
}

func (sweeping) Advance(context.Context) {}

// Who has a sweep in hand is named as one who may have, so that others find it: also behind its looking for what others have left.
func TestWorkersAreNamed(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1, func(o *Options) { o.Horizon = 200 * time.Millisecond })[0]
	swept := make(chan bool, 1000)
	f.Sweep(sweeping(func(*Record) {
		named, err := server.Admin().SIsMember(context.Background(), "cp:{inv}:workers", f.ID()).Result()
		swept <- named && err == nil
	}))
	for end := time.Now().Add(2 * sweepWait); time.Now().Before(end); {
		purge(t, f, Purge{Kind: KindAll}, limit)
		if !<-swept {
			t.Fatal("it is not named, and has a sweep in hand")
		}
	}
}

// While the same is purged faster than it can be swept, the queue does not grow.
func TestTheSameFasterThanItIsSwept(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	same := Purge{Kind: KindPattern, Selector: "a.example/*"}
	const sweeps, perSweep = 30, 4
	n, longest := 0, int64(0)
	done := make(chan struct{})
	f.Sweep(sweeping(func(*Record) {
		if n++; n > sweeps {
			return
		}
		for range perSweep {
			if _, err := f.Purge(context.Background(), same, 0); err != nil {
				t.Error(err)
			}
		}
		longest = max(longest, server.Admin().LLen(context.Background(), "cp:{inv}:sweeps").Val())
		if n == sweeps {
			close(done)
		}
	}))
	purge(t, f, same, limit)
	<-done
	if longest > 3*perSweep {
		t.Errorf("%d waited", longest)
	}
	await(t, "swept", func() bool { return server.Admin().LLen(t.Context(), "cp:{inv}:sweeps").Val() == 0 })
}

// Those whose horizon is not over do not keep others from being found.
func TestCoveringUpTo(t *testing.T) {
	table := NewTable()
	for seq := range Seq(3 * maxCovering) {
		table.Apply(&Record{Purge: Purge{Kind: KindAll}, Seq: seq + 1})
	}
	older := &Record{Purge: Purge{Kind: KindAll}, Seq: 1}
	if list := table.covering(older, 5); len(list) != 4 || list[0].Seq != 5 {
		t.Errorf("%v", list)
	}
	if list := table.covering(older, 1<<60); len(list) != maxCovering || list[0].Seq != 3*maxCovering {
		t.Errorf("%d", len(list))
	}
}

// A sweep in which the newer record is lost, or cancelled, does not do for the older one; and one that is merged cannot be cancelled by itself.
func TestSweptInVainInPlaceOfAnother(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *redistest.Server, *Follower, Seq){
		"lost": func(t *testing.T, server *redistest.Server, _ *Follower, newer Seq) {
			server.Admin().XDel(t.Context(), "cp:{inv}:log", newer.String()+"-0")
		},
		"cancelled": func(t *testing.T, _ *redistest.Server, f *Follower, newer Seq) {
			if got, err := f.Cancel(t.Context(), newer, "me"); err != nil || got != CancelOK {
				t.Errorf("%v, %v", got, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.StartSettled(t)
			f := newFleet(t, server.URL, 1)[0]
			same := Purge{Kind: KindPattern, Selector: "a.example/*"}
			older, newer := purge(t, f, same, limit).Sequence, purge(t, f, same, limit).Sequence
			purge(t, f, Purge{Kind: KindTag, Tags: []string{"last"}}, limit)
			s := newScripted()
			f.Sweep(s)
			s.await(t, newer)
			if got, err := f.Cancel(t.Context(), older, "me"); err != nil || got != CancelLate {
				t.Errorf("%v, %v", got, err)
			}
			end(t, server, f, newer)
			s.await(t, older)
			close(s.steps)
			await(t, "swept", func() bool {
				o := outcome(t, f, older)
				return o.State == SweepOnce && o.Merged == 0 && o.Cancelled == ""
			})
			await(t, "nothing in hand", func() bool { return server.Admin().Exists(t.Context(), "cp:{inv}:sweeps:"+f.ID()).Val() == 0 })
		})
	}
}
