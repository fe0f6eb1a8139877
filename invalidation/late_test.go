package invalidation

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// A sweep that came to its end before it heard of being cancelled was not cancelled, nor is one that is swept for good.
func TestCancelledTooLate(t *testing.T) {
	server := redistest.Start(t)
	f := newFleet(t, server.URL, 1)[0]
	for _, tt := range []struct {
		ends note
		want Cancelled
	}{{note{Passes: 1}, CancelLate}, {note{Passes: 1, Cancelled: "me"}, CancelOK}, {note{Passes: 2, Cancelled: "me"}, CancelLate}} {
		seq := purge(t, f, Purge{Kind: KindAll}, limit).Sequence
		if got, err := f.Cancel(t.Context(), seq, "me"); err != nil || got != CancelOK {
			t.Errorf("%v, %v", got, err)
		}
		if _, _, err := f.log.note(t.Context(), "cp:{inv}:sweeps:x", seq.String(), &tt.ends, true); err != nil {
			t.Error(err)
		}
		if got, err := f.Cancel(t.Context(), seq, "you"); err != nil || got != tt.want {
			t.Errorf("%+v: %v, %v", tt.ends, got, err)
		}
	}
}

// A first sweep that ends while the second goes on has swept what it has swept.
func TestFirstSweepThatEndsInTheSecond(t *testing.T) {
	server := redistest.Start(t)
	f := newFleet(t, server.URL, 1)[0]
	seq := purge(t, f, Purge{Kind: KindAll}, limit).Sequence
	first := note{Running: true, By: "other", Tally: Tally{Matched: 2, Swept: 2, Bytes: 20}}
	tell := func(over bool) {
		t.Helper()
		if _, _, err := f.log.note(t.Context(), "cp:{inv}:sweeps:other", seq.String(), &first, over); err != nil {
			t.Fatal(err)
		}
	}
	tell(false)
	server.Admin().HSet(t.Context(), "cp:{inv}:swept", seq.String()+":again", 1)
	s := newScripted()
	f.Sweep(s)
	s.await(t, seq)
	s.steps <- Tally{Matched: 1, Swept: 1, Bytes: 10}
	first.Passes, first.Running, first.Tally = 1, false, Tally{Matched: 7, Swept: 6, Bytes: 60}
	tell(true)
	close(s.steps)
	await(t, "swept twice", func() bool { return outcome(t, f, seq).State == SweepTwice })
	if o := outcome(t, f, seq); o.Matched != 8 || o.Swept != 7 || o.Bytes != 70 {
		t.Errorf("%+v", o)
	}
}

// An error is one line: it is told in receipts, and shown on terminals.
func TestErrorIsALine(t *testing.T) {
	server := redistest.Start(t)
	f := newFleet(t, server.URL, 1)[0]
	server.Kill()
	if _, err := f.Replicas(t.Context()); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}

// What is old is judged by the clock of the server that has the log, which gave the sequences, and not by that of any master.
func TestTrimmingByTheClockOfTheLog(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	any := cluster.MasterOf("any").URL // a cluster's client finds the others
	clients := func() redis.UniversalClient {
		o, err := redis.ParseURL(any())
		if err != nil {
			t.Fatal(err)
		}
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{o.Addr}, Username: o.Username, Password: o.Password})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	f := newFleet(t, any, 1, func(o *Options) {
		o.Redis, o.Waiting, o.Horizon = clients(), clients(), 200*time.Millisecond
	})[0]
	f.Sweep(nothingToSweep{})
	first := purge(t, f, Purge{Kind: KindAll}, limit).Sequence
	purge(t, f, Purge{Kind: KindAll}, limit)
	await(t, "trimmed", func() bool {
		e, err := f.Recorded(t.Context(), first)
		return err == nil && e != nil && e.Past
	})
	var asked atomic.Int64
	client := f.opt.Redis.(*redis.ClusterClient)
	err := client.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		if strings.Contains(node.Info(ctx, "commandstats").Val(), "cmdstat_time:") {
			asked.Add(1)
		}
		return nil
	})
	if err != nil || asked.Load() != 1 {
		t.Errorf("%d masters were asked for the time, %v", asked.Load(), err)
	}
}
