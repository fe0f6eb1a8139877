//go:build consistency

package consistency

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"cacheproxy/redistest"
)

// Every rule of the protocol is there because of an order of events that it defeats. So each is taken out, and a schedule must then see a promise
// broken that the whole build keeps.
//
// The second sweep, when a purge's horizon ends, covers three others: what a saver did not check, checked with a slow tail, or left behind when it
// died is swept then. The late saves have it skipped, by a note that it was done; so there those three are seen alone.
//
// The time in which a Redis may not know all who follow covers leases that are as long as that of whoever is asked.
//
// Entering tags into the index before the save covers the time that a save is counted from, where the index lies beside the log and both
// cannot be reached. It does not where the response has no tags, or where only the reading of the log gets no answers: those are its schedules.

// rulesOut says which schedules catch a rule's absence; all else that is tried must not, since another rule covers it.
var rulesOut = []struct {
	rule, what string
	schedules  []string
}{
	{"check", "the saver's look at the log after the save", []string{"late save"}},
	{"tail", "the saver's waiting for its own tail before it looks", []string{"late save, slow tail"}},
	{"provisional", "the short life of what is not checked yet", []string{"late save, crash"}},
	{"not-after", "the time after which Redis takes a save no more", []string{"very late save"}},
	{"floor", "doubt about what was begun before a purge that is forgotten", []string{"very slow fetch"}},
	{"joining check", "the look at the purges since, before a fetch is shared", []string{"joined fetch"}},
	{"two sequences", "that a 304 renews the validity of a response, and not its body", []string{"late 304"}},
	{"register first", "registering before the log is read", []string{"joining the fleet"}},
	{"lease", "the lease of strict replicas", []string{"deaf"}},
	{"oldest record", "applying the log's oldest record when joining", []string{"joining late"}},
	{"drop first", "dropping what is held before registering", []string{"joining again"}},
	{"lease of the queue", "the lease, for what waits to be saved", []string{"deaf, saving"}},
	{"lease of joining", "the lease, for joining a fetch", []string{"deaf, fetching"}},
	{"same run,young", "counting leases from when the same run of Redis takes heartbeats", []string{"beats lost"}},
	{"young", "the time in which a Redis that has just begun may not know all who follow", []string{"unknown"}},
	{"level", "counting a save's time from when nothing was left to apply", []string{"cut off, validating", "late tail, validating"}},
}

// attempts is how often a rule's absence may go unseen because the machine was too slow for the schedule.
const attempts = 4

func TestSchedules(t *testing.T) {
	t.Parallel()
	for _, s := range schedules {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if violation := s.run(newStage(t, s.options, redistest.Options{})); violation != "" {
				t.Errorf("%s: %s", s.what, violation)
			}
		})
	}
}

// Whoever changes a rule hears of it at once, and not when somebody holds the table against the sources again.
func TestRulesCanBeTakenOut(t *testing.T) {
	t.Parallel()
	if _, err := crippled(); err != nil {
		t.Fatal(err)
	}
}

func TestRulesTakenOut(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	table := map[string]string{}
	t.Run("each", func(t *testing.T) {
		for _, r := range rulesOut {
			for _, name := range r.schedules {
				t.Run(r.rule+" by "+name, func(t *testing.T) {
					t.Parallel()
					seen := caught(t, r.rule, name)
					if seen == "" {
						t.Errorf("%q breaks no promise where this is taken out: %s", name, r.what)
					}
					mu.Lock()
					defer mu.Unlock()
					table[r.rule+name] = fmt.Sprintf("| %s | %s | %s |", r.what, name, seen)
				})
			}
		}
	})
	var lines []string
	for _, r := range rulesOut {
		for _, name := range r.schedules {
			lines = append(lines, table[r.rule+name])
		}
	}
	t.Logf("caught:\n| taken out | schedule | what was seen |\n|---|---|---|\n%s", strings.Join(lines, "\n"))
}

// caught is what a schedule sees where a rule is taken out.
func caught(t *testing.T, rule, name string) (violation string) {
	i := slices.IndexFunc(schedules, func(s schedule) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no schedule is called %q", name)
	}
	for range attempts {
		t.Run("attempt", func(t *testing.T) {
			o := schedules[i].options
			o.out = rule
			violation = schedules[i].run(newStage(t, o, redistest.Options{}))
		})
		if violation != "" {
			break
		}
	}
	return violation
}

// edit is how a rule is taken out of the sources.
type edit struct{ rule, file, old, new string }

var edits = []edit{
	{"check and tail", "store/confirm.go", "if err != nil || !s.follower.Reached(ctx, newest) {",
		`if !takenOut("check") && (err != nil || !takenOut("tail") && !s.follower.Reached(ctx, newest)) {`},
	{"check", "store/confirm.go", "	j := s.follower.Table().Judge(t.entry.subject(), 0)\n	if t.stamp.mark.Number < j.Floor || t.entry.Epoch() != uint64(j.Epoch) {",
		`	j := s.follower.Table().Judge(t.entry.subject(), 0)
	if takenOut("check") {
		j = invalidation.Judgement{}
	} else if t.stamp.mark.Number < j.Floor && !takenOut("floor") || t.entry.Epoch() != uint64(j.Epoch) {`},
	{"provisional", "store/stamp.go", "	if s.follower == nil {\n		return ttl\n", "	if s.follower == nil || takenOut(\"provisional\") {\n		return ttl\n"},
	{"not-after", "store/saver.go", "		return savedUnindexed\n	}\n	value := packed(t.entry)\n",
		"		return savedUnindexed\n	}\n	value := packed(t.entry)\n	if takenOut(\"not-after\") {\n		t.stamp.notAfter = 0\n	}\n"},
	{"floor", "store/stamp.go", "begun != 0 && begun < j.Floor, e.Epoch()", `begun != 0 && begun < j.Floor && !takenOut("floor"), e.Epoch()`},
	{"floor", "store/stamp.go", "return t == nil || s.mark.Number >= t.Floor()", `return t == nil || takenOut("floor") || s.mark.Number >= t.Floor()`},
	{"floor", "store/stamp.go", "since.mark.Number < j.Floor ||", `since.mark.Number < j.Floor && !takenOut("floor") ||`},
	{"joining check", "proxy/plan.go", "&& !p.purgedFor(j) &&", `&& (takenOut("joining check") || !p.purgedFor(j)) &&`},
	{"two sequences", "proxy/exchange.go", "	d.ValidatedSince(x.stamp)\n",
		"	d.ValidatedSince(x.stamp)\n	if takenOut(\"two sequences\") {\n		d.FetchedSince(x.h.opt.Store.Mark())\n	}\n"},
	{"two sequences", "proxy/exchange.go", "	if x.h.opt.Store.PurgedSince(x.stored, x.stamp) {", `	if !takenOut("two sequences") && x.h.opt.Store.PurgedSince(x.stored, x.stamp) {`},
	{"register first and drop first", "invalidation/tail.go", "	f.begin(first) // before others are told that this replica has applied it\n	f.opt.Doubted()\n",
		`	if !takenOut("drop first") {
		f.begin(first)
		f.opt.Doubted()
	}
	if takenOut("register first") {
		for {
			n, err := f.advance(-1)
			if err != nil {
				return err
			}
			if n < int(readBatch) {
				f.mu.Lock()
				first = f.last
				f.mu.Unlock()
				break
			}
		}
	}
`},
	{"register first and drop first", "invalidation/tail.go", "	} else if !b.accepted {\n		return errDoubt\n	}\n	for {\n		asked := f.batch\n",
		`	} else if !b.accepted {
		return errDoubt
	}
	if takenOut("register first") {
		return nil
	}
	if takenOut("drop first") {
		f.begin(first)
		f.opt.Doubted()
	}
	for {
		asked := f.batch
`},
	{"oldest record", "invalidation/follower.go", "	f.whole.Store(0)\n	f.take(at)\n",
		"	f.whole.Store(0)\n	if takenOut(\"oldest record\") {\n		f.last = at\n		f.wake()\n		return\n	}\n	f.take(at)\n"},
	{"lease", "invalidation/follower.go", "	if f.opt.Lease == 0 || f.log == nil {\n		return false", "	if takenOut(\"lease\") || f.opt.Lease == 0 || f.log == nil {\n		return false"},
	{"lease of the queue", "store/lane.go", "|| l.near.shut())", `|| l.near.shut() && !takenOut("lease of the queue"))`},
	{"lease of joining", "store/share.go", "&& !s.near.shut()", `&& (takenOut("lease of joining") || !s.near.shut())`},
	{"same run", "invalidation/receipt.go", "return f.tells && !f.since.IsZero() &&", `return takenOut("same run") || f.tells && !f.since.IsZero() &&`},
	{"young", "invalidation/receipt.go", "	if now.since.IsZero() {\n		return youth\n", "	if takenOut(\"young\") {\n		return 0\n	}\n	if now.since.IsZero() {\n		return youth\n"},
	{"level", "invalidation/follower.go", "	return whole + (f.opt.Horizon",
		"	if takenOut(\"level\") {\n		whole = f.clock.Load().now()\n	}\n	return whole + (f.opt.Horizon"},
}
