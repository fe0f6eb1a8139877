package invalidation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// scripted is a Sweeper that does as the test says: it announces each sweep, and reports what it is sent until the channel is closed.
type scripted struct {
	begun chan Seq
	steps chan Tally
}

func newScripted() *scripted {
	return &scripted{begun: make(chan Seq, 2*maxPast), steps: make(chan Tally)}
}

func (s *scripted) Sweep(ctx context.Context, r *Record, progress func(Tally) error) (t Tally, err error) {
	s.begun <- r.Seq
	for {
		select {
		case step, more := <-s.steps:
			if !more {
				return t, nil
			}
			t = step
		case <-time.After(noteEvery / 4): // a batch
		case <-ctx.Done():
			return t, ctx.Err()
		}
		if err := progress(t); err != nil {
			return t, err
		}
	}
}

func (s *scripted) Advance(context.Context) {}

func (s *scripted) await(t *testing.T, seq Seq) {
	t.Helper()
	select {
	case got := <-s.begun:
		if got != seq {
			t.Fatalf("%v is swept, not %v", got, seq)
		}
	case <-time.After(limit):
		t.Fatal("nothing is swept")
	}
}

func outcome(t *testing.T, f *Follower, seq Seq) Outcome {
	t.Helper()
	o, err := f.Outcome(t.Context(), seq)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Whoever is asked can tell how far a sweep is that another replica is at, what it has found in the end, and so for long after the log has
// forgotten the purge.
func TestSweepIsTold(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 2, func(o *Options) { o.Horizon = time.Second })
	asked := Purge{Kind: KindTag, Tags: []string{"x"}, Who: "me"}
	seq := purge(t, all[0], asked, limit).Sequence
	if o := outcome(t, all[0], seq); o.State != SweepQueued || o.Over() {
		t.Errorf("%+v", o)
	}
	s := newScripted()
	all[1].Sweep(s)
	s.await(t, seq)
	s.steps <- Tally{Matched: 3, Swept: 2, Bytes: 10, Sample: []string{"http://a.example/"}, Walked: 5, Of: 20}
	await(t, "told", func() bool {
		o := outcome(t, all[0], seq)
		return o.State == SweepRunning && o.By == all[1].ID() && o.Matched == 3 && o.Swept == 2 && o.Walked == 5 && o.Of == 20 && time.Since(o.At) < limit
	})
	waited := make(chan Outcome)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		o, _ := all[0].AwaitSwept(ctx, seq)
		waited <- o
	}()
	close(s.steps)
	if o := <-waited; !o.Over() || o.Swept != 2 || len(o.Sample) != 1 || o.Cancelled != "" {
		t.Errorf("%+v", o)
	}
	await(t, "swept twice", func() bool { return outcome(t, all[0], seq).State == SweepTwice })
	purge(t, all[0], Purge{Kind: KindAll}, limit) // the last record stays in the log
	await(t, "in the history", func() bool {
		e, err := all[0].Recorded(t.Context(), seq)
		return err == nil && e != nil && e.Past
	})
	e, err := all[0].Recorded(t.Context(), seq)
	if err != nil || e.Who != "me" || e.Tags[0] != "x" || e.Outcome.State != SweepTwice || e.Outcome.Swept != 2 || e.Shortened {
		t.Errorf("%+v, %v", e, err)
	}
	if n := server.Admin().HExists(t.Context(), "cp:{inv}:swept", seq.String()).Val(); n {
		t.Error("its note is left")
	}
}

// A sweep that is cancelled ends, and the record is not forgotten before it is swept after all.
func TestCancelledSweep(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1, func(o *Options) { o.Horizon = 2 * time.Second })[0]
	m := f.Table().Mark()
	waiting := purge(t, f, Purge{Kind: KindPattern, Selector: "http://a.example/*"}, limit).Sequence
	cancel := func(seq Seq, want Cancelled) {
		t.Helper()
		if got, err := f.Cancel(t.Context(), seq, "me"); err != nil || got != want {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	cancel(waiting, CancelOK)
	cancel(1, CancelGone)
	if o := outcome(t, f, waiting); o.State != SweepCancelled || o.Cancelled != "me" {
		t.Errorf("%+v", o)
	}
	running := purge(t, f, Purge{Kind: KindPattern, Selector: "http://a.example/b*"}, limit).Sequence
	s := newScripted()
	f.Sweep(s)
	s.await(t, running) // the first is not swept
	s.steps <- Tally{Matched: 1, Swept: 1}
	cancel(running, CancelOK)
	await(t, "ended", func() bool {
		text := server.Admin().HGet(t.Context(), "cp:{inv}:swept", running.String()).Val()
		return strings.Contains(text, `"passes":1`)
	})
	cancel(running, CancelOK) // as before
	if o := outcome(t, f, running); o.State != SweepCancelled || o.Cancelled != "me" || o.Swept != 1 {
		t.Errorf("%+v", o)
	}
	if !forbids(f, m, "http://a.example/") {
		t.Error("the purge does not stand")
	}
	// When the horizon is over both are swept, and that is not cancelled.
	s.await(t, waiting)
	if o := outcome(t, f, waiting); o.State != SweepRunning {
		t.Errorf("%+v", o)
	}
	if e, err := f.Recorded(t.Context(), waiting); err != nil || e == nil || e.Past || !forbids(f, m, "http://a.example/") {
		t.Errorf("forgotten before it is swept: %+v, %v", e, err)
	}
	cancel(waiting, CancelOK)
	s.steps <- Tally{Matched: 2, Swept: 2}
	close(s.steps)
	s.await(t, running)
	await(t, "trimmed", func() bool {
		e, err := f.Recorded(t.Context(), waiting)
		return err == nil && e != nil && e.Past && e.Outcome.State == SweepTwice && e.Outcome.Swept == 2 && e.Outcome.Cancelled == "me"
	})
	swept := purge(t, f, Purge{Kind: KindURL, Selector: "http://a.example/c"}, limit).Sequence
	await(t, "swept", func() bool { return outcome(t, f, swept).State == SweepOnce })
	cancel(swept, CancelLate)
	cancel(waiting, CancelGone)
}

// Who had a sweep in hand when somebody else was through with the record makes nothing of it.
func TestSweepOfARecordThatIsGone(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	seq := purge(t, f, Purge{Kind: KindAll}, limit).Sequence
	s := newScripted()
	f.Sweep(s)
	s.await(t, seq)
	purge(t, f, Purge{Kind: KindAll}, limit)
	admin := server.Admin()
	admin.XDel(t.Context(), "cp:{inv}:log", seq.String()+"-0")
	admin.HDel(t.Context(), "cp:{inv}:swept", seq.String())
	await(t, "given up", func() bool { return len(s.begun) == 1 }) // with the next
	if admin.HExists(t.Context(), "cp:{inv}:swept", seq.String()).Val() {
		t.Error("it is noted again")
	}
}

// Who was stopped in a sweep, and goes on when others have been through with the record, does not take that back: nobody would queue it again.
func TestLateNoteOfASweep(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	seq := purge(t, f, Purge{Kind: KindAll}, limit).Sequence
	for _, n := range []note{{Passes: 1}, {Passes: 1, Running: true}, {Passes: 2}, {Passes: 1}, {Running: true}} {
		if there, _, err := f.log.note(t.Context(), "cp:{inv}:sweeps:x", seq.String(), &n, false); !there || err != nil {
			t.Errorf("%+v: %v, %v", n, there, err)
		}
	}
	if o := outcome(t, f, seq); o.State != SweepTwice {
		t.Errorf("%+v", o)
	}
	// Nor does it say that less was found than was by who came instead.
	seq = purge(t, f, Purge{Kind: KindAll}, limit).Sequence
	for _, n := range []note{{Passes: 1, Tally: Tally{Swept: 5}}, {Passes: 1, Tally: Tally{Swept: 3}}} {
		if _, _, err := f.log.note(t.Context(), "cp:{inv}:sweeps:x", seq.String(), &n, true); err != nil {
			t.Error(err)
		}
	}
	if o := outcome(t, f, seq); o.State != SweepOnce || o.Swept != 5 {
		t.Errorf("%+v", o)
	}
}

// A Redis that is full sweeps and forgets: that is what helps it.
func TestSweepInAFullRedis(t *testing.T) {
	server := redistest.StartSettled(t)
	admin := server.Admin()
	all := newFleet(t, server.URL, 2, func(o *Options) { o.Horizon = time.Second })
	for _, set := range [][2]string{{"maxmemory-policy", "noeviction"}, {"maxmemory", "1"}} {
		if err := admin.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	all[0].Sweep(nothingToSweep{})
	first := purge(t, all[0], Purge{Kind: KindAll, Who: "me"}, limit)
	dead := purge(t, all[0], Purge{Kind: KindAll}, limit)
	if !first.Complete() || !dead.Complete() {
		t.Errorf("%+v, %+v", first, dead)
	}
	await(t, "forgotten, and in the history", func() bool {
		e, err := all[1].Recorded(t.Context(), first.Sequence)
		return err == nil && e != nil && e.Past && e.Who == "me" && e.Outcome.State == SweepTwice
	})
	if got, err := all[1].Cancel(t.Context(), dead.Sequence, "me"); err != nil || got == CancelGone {
		t.Errorf("%v, %v", got, err)
	}
	if err := admin.Set(t.Context(), "cp:x", "x", 0).Err(); err == nil {
		t.Error("Redis was not full")
	}
}

// What fails is tried again, and what was swept before that is not forgotten.
func TestSweepThatFails(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	seq := purge(t, f, Purge{Kind: KindAll}, limit).Sequence
	f.Sweep(&failing{})
	await(t, "swept", func() bool {
		o := outcome(t, f, seq)
		return o.State == SweepOnce && o.Swept == 11 && o.Matched == 11
	})
}

type failing struct{ times int }

func (s *failing) Sweep(context.Context, *Record, func(Tally) error) (Tally, error) {
	if s.times++; s.times == 1 {
		return Tally{Matched: 10, Swept: 10}, errors.New("not today")
	}
	return Tally{Matched: 1, Swept: 1}, nil
}

func (s *failing) Advance(context.Context) {}

// Without Redis the same is told of near memory, as long as it is remembered.
func TestSweepInThisProcess(t *testing.T) {
	f, err := Start(Options{Instance: "alone"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close(t.Context())
	s := newScripted()
	f.Sweep(s)
	first := purge(t, f, Purge{Kind: KindAll}, 0).Sequence
	second := purge(t, f, Purge{Kind: KindAll}, 0).Sequence
	third := purge(t, f, Purge{Kind: KindAll}, 0).Sequence
	s.await(t, first)
	s.steps <- Tally{Matched: 2, Swept: 2}
	await(t, "told", func() bool { o := outcome(t, f, first); return o.State == SweepRunning && o.Swept == 2 })
	for _, seq := range []Seq{first, second} {
		if got, err := f.Cancel(t.Context(), seq, "me"); err != nil || got != CancelOK {
			t.Errorf("%v, %v", got, err)
		}
	}
	s.await(t, third)
	close(s.steps)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if o, err := f.AwaitSwept(ctx, third); err != nil || o.State != SweepTwice {
		t.Errorf("%+v, %v", o, err)
	}
	for seq, want := range map[Seq]SweepState{first: SweepCancelled, second: SweepCancelled} {
		if o := outcome(t, f, seq); o.State != want || o.Cancelled != "me" {
			t.Errorf("%+v", o)
		}
	}
	for seq, want := range map[Seq]Cancelled{first: CancelOK, third: CancelLate, 1: CancelGone} {
		if got, _ := f.Cancel(t.Context(), seq, "me"); got != want {
			t.Errorf("%v: %v, want %v", seq, got, want)
		}
	}
	passing := purge(t, f, Purge{Kind: KindAll, Passing: true}, 0).Sequence
	if e, _ := f.Recorded(t.Context(), passing); e == nil || e.Outcome.State != SweepTwice {
		t.Errorf("%+v", e)
	}
	for range maxPast {
		purge(t, f, Purge{Kind: KindURL, Selector: "http://a.example/"}, 0)
	}
	if list, err := f.History(t.Context(), 2*maxPast, 0); err != nil || len(list) != maxPast+1 || list[maxPast].Seq != passing {
		t.Errorf("%d, %v", len(list), err)
	}
}

func TestOutcomeOfANote(t *testing.T) {
	for i, tt := range []struct {
		note note
		stop string
		want SweepState
		who  string
	}{
		{note{}, "", SweepQueued, ""},
		{note{}, "me", SweepCancelled, "me"},
		{note{Running: true}, "", SweepRunning, ""},
		{note{Running: true}, "me", SweepCancelled, "me"},
		{note{Passes: 1}, "", SweepOnce, ""},
		{note{Passes: 1}, "too late", SweepOnce, ""},
		{note{Passes: 1, Cancelled: "me"}, "me", SweepCancelled, "me"},
		{note{Passes: 1, Running: true, Cancelled: "me"}, "me", SweepRunning, "me"},
		{note{Passes: 2, Cancelled: "me"}, "me", SweepTwice, "me"},
	} {
		if got := tt.note.outcome(tt.stop); got.State != tt.want || got.Cancelled != tt.who || got.Sample == nil {
			t.Errorf("%d: %+v", i, got)
		}
	}
	if _, err := parseNote("{"); err == nil {
		t.Error("a note that is none was read")
	}
}

func TestTally(t *testing.T) {
	var one, two Tally
	for i := range 2 * MaxSample {
		one.Match(fmt.Sprint("http://a.example/", i/2)) // two of each
		two.Match("http://b.example/" + strings.Repeat("x", 2*maxSampled))
	}
	if one.Matched != 2*MaxSample || len(one.Sample) != MaxSample || len(two.Sample) != 1 || len(two.Sample[0]) != maxSampled {
		t.Errorf("%+v, %.200v", one, two)
	}
	var long Tally
	for i := range MaxSample {
		long.Match(fmt.Sprint(i, strings.Repeat("x", maxSampled)))
	}
	if sum := long.after(one); len(long.Sample) != maxSample/maxSampled || sum.Matched != 3*MaxSample || len(sum.Sample) != MaxSample {
		t.Errorf("%.200v", long)
	}
	two.Swept, two.Bytes, two.Walked, two.Of = 3, 4, 5, 6
	one.Sample = one.Sample[:MaxSample-1]
	if sum := two.after(one); sum.Matched != 4*MaxSample || sum.Swept != 3 || sum.Bytes != 4 || sum.Walked != 5 || sum.Of != 6 || len(sum.Sample) != MaxSample {
		t.Errorf("%+v", sum)
	}
}
