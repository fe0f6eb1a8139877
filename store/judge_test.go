package store

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"cacheproxy/invalidation"
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
