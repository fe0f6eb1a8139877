package store

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"cacheproxy/invalidation"
	"cacheproxy/redistest"
)

// A purge may be forgotten, or all be doubted, between the moment in which somebody begins to compare an entry with the table and the moment in
// which he looks at the records. He must not take the emptied table for one that has nothing against the entry:
//
//	judge                        table
//	the entry is above the floor
//	                             forgets the record that forbids it
//	no record forbids it
//	it is compared up to now     (and so is served for ever)
func TestJudgingWhileAPurgeIsForgotten(t *testing.T) {
	var tags []string // so that looking at the entry takes a while
	for i := range 200 {
		tags = append(tags, fmt.Sprint("tag-", i))
	}
	for name, forget := range map[string]func(*invalidation.Table, *invalidation.Record){
		"forgotten": func(table *invalidation.Table, r *invalidation.Record) { table.Forget(r.Seq) },
		"doubted":   func(table *invalidation.Table, r *invalidation.Record) { table.Doubt(r.Position()) },
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 3000 {
				table := invalidation.NewTable()
				table.Doubt(invalidation.Position{Epoch: 1, Seq: 1})
				d := draft(purged)
				d.Epoch, d.BodyAsOf, d.ValidAsOf, d.Tags = 1, 1, 1, tags
				e := mustEntry(t, d)
				if !judge(table, e) {
					t.Fatal("forbidden before there is a purge")
				}
				r := &invalidation.Record{Purge: invalidation.Purge{Kind: invalidation.KindURL, Selector: purged}, Epoch: 1, Seq: 2}
				table.Apply(r)
				var both sync.WaitGroup
				both.Go(func() { judge(table, e) })
				both.Go(func() {
					for range i % 20 {
						runtime.Gosched()
					}
					forget(table, r)
				})
				if both.Wait(); judge(table, e) {
					t.Fatalf("round %d: what was purged is served", i)
				}
			}
		})
	}
}

// A full Redis, which takes no saves, is swept all the same, of what a soft purge selects too.
func TestSweepOfAFullRedis(t *testing.T) {
	for _, soft := range []bool{false, true} {
		server := redistest.StartWith(t, redistest.Options{MaxMemory: "4mb", Policy: "noeviction"})
		r := newReplicas(t, server, 1)[0]
		e := r.stored(t, purged)
		admin := server.Admin()
		for i := 0; admin.Set(t.Context(), fmt.Sprint(i), make([]byte, 100<<10), 0).Err() == nil; i++ {
		}
		r.purge(t, byURL(soft))
		key := r.far.keys.of(purged).entryKey(e.variant())
		eventually(t, "swept", func() bool {
			now := admin.Get(t.Context(), key).Val()
			return !soft && now == "" || soft && len(now) > 16 && now[8:16] != "\x00\x00\x00\x00\x00\x00\x00\x00"
		})
	}
}

// Whatever a script calls, the user of docs/store.md may call.
func TestScriptsNeedNoMoreThanIsDocumented(t *testing.T) {
	allowed := strings.Fields(documentedRules(t))
	call := regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`)
	scripts, err := filepath.Glob("../*/*.lua")
	if err != nil || len(scripts) < 8 {
		t.Fatal(scripts, err)
	}
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllSubmatch(text, -1) {
			if rule := "+" + strings.ToLower(string(m[1])); !slices.Contains(allowed, rule) {
				t.Errorf("%s needs %s", name, rule)
			}
		}
	}
}
