package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/limiter"
)

const (
	replicas    = 4
	sharedLimit = 400
	sharedAsked = 500
)

// sharing is what became of a limit that replicas share, for each accuracy, after each request of a client that asks them in turn.
type sharing map[limiter.Accuracy][]shared

type shared struct {
	admitted bool
	left     int // tokens that Redis has
	asked    int // how often it was asked by then
}

// asked is how often Redis was asked in all.
func (s sharing) asked(a limiter.Accuracy) int { return s[a][sharedAsked-1].asked }

// share starts a redis-server and has replicas share a limit in it. They have all the time that they want to ask it, and a clock that
// stands still: so what is leased is not given back, and what is drawn does not depend on how fast the machine is.
func share() (sharing, error) {
	dir, err := os.MkdirTemp("", "limits")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system empties it some day
	socket := filepath.Join(dir, "redis")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("%w; make needs installs it", err)
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	observer := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, ContextTimeoutEnabled: true, MaxRetries: -1})
	defer func() { _ = observer.Close() }()
	for observer.Ping(ctx).Err() != nil {
		select {
		case <-ctx.Done():
			return nil, errors.New("redis-server does not answer")
		case <-time.After(10 * time.Millisecond):
		}
	}
	s := sharing{}
	for _, accuracy := range []limiter.Accuracy{limiter.Leased, limiter.Exact} {
		if s[accuracy], err = shareOne(ctx, observer, accuracy); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func shareOne(ctx context.Context, observer *redis.Client, accuracy limiter.Accuracy) (all []shared, err error) {
	spec := limiter.Spec{Name: string(accuracy), Limit: sharedLimit, Window: time.Hour, Accuracy: accuracy}
	var questions questions
	var sets [replicas]*limiter.Set
	for i := range sets {
		own := redis.NewClient(&redis.Options{Network: "unix", Addr: observer.Options().Addr, ContextTimeoutEnabled: true, MaxRetries: -1})
		defer func() { _ = own.Close() }()
		own.AddHook(&questions)
		var now clock
		l, err := limiter.New(limiter.Options{Limits: []limiter.Spec{spec}, Redis: own, Now: now.Now, Timeout: time.Minute})
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close(ctx) }() // redis-server ends too
		if sets[i], err = l.Current().All(); err != nil {
			return nil, err
		}
	}
	key := "cp:r:{" + spec.Name + ":" + client.String() + "}"
	for n := range sharedAsked {
		one := shared{admitted: reserve(ctx, sets[n%replicas])}
		count, err := observer.Get(ctx, key).Int()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		one.left, one.asked = sharedLimit-count, int(questions.asked.Load())
		all = append(all, one)
	}
	return all, nil
}

// questions counts the scripts that are called for a client: a hook of go-redis. The script that tells who is busiest has two keys.
type questions struct{ asked atomic.Int64 }

// DialHook does nothing.
func (q *questions) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook counts.
func (q *questions) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" && cmd.Args()[2] == 1 {
			q.asked.Add(1)
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook does nothing: a request with one limit sends no pipeline.
func (q *questions) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, all []redis.Cmder) error { return next(ctx, all) }
}
