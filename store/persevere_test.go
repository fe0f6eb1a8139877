package store

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/redistest"
)

// unanswered lets each fourth question to Redis go without an answer, after it was done.
type unanswered struct {
	asked atomic.Int64
	on    atomic.Bool
}

func (u *unanswered) lost(err error) error {
	if u.on.Load() && u.asked.Add(1)%4 == 0 {
		return os.ErrDeadlineExceeded
	}
	return err
}

func (u *unanswered) DialHook(next redis.DialHook) redis.DialHook { return next }

func (u *unanswered) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := u.lost(next(ctx, cmd))
		if err != nil {
			cmd.SetErr(err)
		}
		return err
	}
}

func (u *unanswered) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := u.lost(next(ctx, cmds))
		if err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// A Redis that is too busy to answer now and then is swept, and counted, to the end all the same.
func TestSweepOfABusyRedis(t *testing.T) {
	server := redistest.Start(t)
	r := unswept(t, server)
	busy := new(unanswered)
	r.far.client.(*redis.Client).AddHook(busy)
	const n = 2*scanBatch + 1
	all := invalidation.Purge{Kind: invalidation.KindAll}
	for name, p := range map[string]invalidation.Purge{
		"everything": all, "pattern": {Kind: invalidation.KindPattern, Selector: "http://a.example/*"}, "tag": byTag("x"), "URL": {Kind: invalidation.KindURL, Selector: "http://a.example/1"},
	} {
		for i := range n {
			r.SaveSince(mustEntry(t, func() Draft {
				d := draft(fmt.Sprint("http://a.example/", i))
				d.FetchedSince(r.Mark())
				d.Tags = []string{"x"}
				return d
			}()), r.Mark())
		}
		flush(t, r.Store)
		want, err := r.Preview(t.Context(), &p)
		if err != nil {
			t.Fatal(err)
		}
		busy.on.Store(true)
		if found, err := r.Preview(t.Context(), &p); err != nil || found.Matched != want.Matched {
			t.Errorf("%s: a preview finds %d of %d, %v", name, found.Matched, want.Matched, err)
		}
		if _, err := r.Sweep(t.Context(), r.appended(t, p), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		busy.on.Store(false)
		if found, err := r.Preview(t.Context(), &p); err != nil || found.Matched != 0 {
			t.Errorf("%s: %d are left, %v", name, found.Matched, err)
		}
	}
}

// What is not for want of an answer is not tried again, nor is anything after the end.
func TestPersevere(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx   context.Context
		err   error
		times int
	}{{t.Context(), nil, 1}, {t.Context(), errNoTrust, 1}, {ended, os.ErrDeadlineExceeded, 1}, {t.Context(), os.ErrDeadlineExceeded, stepTries}} {
		times := 0
		if err := persevere(tt.ctx, func() error { times++; return tt.err }); err != tt.err || times != tt.times {
			t.Errorf("%v: %d times, %v", tt.err, times, err)
		}
	}
}

// Where it cannot be known which server answers, a sweep that was not answered begins anew: a cursor would mean nothing to another one.
func TestSweepOfABusyRedisThatIsNotKnown(t *testing.T) {
	server := redistest.Start(t)
	r := unswept(t, server)
	r.stored(t, purged)
	if err := server.Admin().Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	record := r.appended(t, invalidation.Purge{Kind: invalidation.KindAll})
	busy := new(unanswered)
	r.far.client.(*redis.Client).AddHook(busy)
	busy.on.Store(true)
	var err error
	for range 4 { // questions, of which one is not answered
		if _, failed := r.Sweep(t.Context(), record, nil); failed != nil {
			err = failed
		}
	}
	if err == nil {
		t.Error("it went on")
	}
}
