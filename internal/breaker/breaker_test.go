package breaker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/internal/bubble"
)

var errDown = errors.New("down")

// The life of a breaker in the time of a bubble: three failures in a row open it, a probe after each cooldown asks, the first
// answer closes it.
func TestBreaker(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		var probes atomic.Int64
		var up atomic.Bool
		probe := func(context.Context) error {
			probes.Add(1)
			if up.Load() {
				return nil
			}
			return errDown
		}
		b := New("redis", Options{Failures: 3, Cooldown: time.Second}, probe, nil, slog.New(slog.DiscardHandler))
		defer b.Close()

		b.Failure(errDown)
		b.Failure(errDown)
		b.Success()
		b.Failure(errDown)
		b.Failure(errDown)
		if !b.Allow() {
			t.Fatal("open after two in a row")
		}
		select {
		case <-b.WhenClosed():
		default:
			t.Error("closed, and does not say so")
		}
		b.Failure(errDown)
		b.Failure(errDown)
		b.Success() // of something asked before it opened
		if b.Allow() {
			t.Fatal("closed after three in a row")
		}
		closed := b.WhenClosed()
		time.Sleep(749 * time.Millisecond)
		synctest.Wait()
		if n := probes.Load(); n != 0 {
			t.Errorf("%d probes before three quarters of the cooldown", n)
		}
		time.Sleep(501 * time.Millisecond)
		synctest.Wait()
		if n := probes.Load(); n != 1 || b.Allow() {
			t.Errorf("%d probes within five quarters of the cooldown", n)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := probes.Load(); n < 8 || n > 15 {
			t.Errorf("%d probes in eleven cooldowns", n)
		}
		up.Store(true)
		time.Sleep(1250 * time.Millisecond)
		synctest.Wait()
		select {
		case <-closed:
		default:
			t.Error("answers, and is not asked")
		}
		b.Failure(errDown)
		b.Failure(errDown)
		if !b.Allow() {
			t.Error("old failures count again")
		}
	})
}

// The outage is told as a time with its unit, in JSON too.
func TestBreakerSaysHowLongItWasOpen(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		var text strings.Builder
		b := New("redis", Options{Failures: 1, Cooldown: time.Second}, func(context.Context) error { return nil }, nil,
			slog.New(slog.NewJSONHandler(&text, nil)))
		b.Failure(errDown)
		<-b.WhenClosed()
		b.Close()
		_, told, _ := strings.Cut(text.String(), `"after":"`)
		told, _, _ = strings.Cut(told, `"`)
		if d, err := time.ParseDuration(told); err != nil || d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Errorf("it was open for %q:\n%s", told, text.String())
		}
	})
}

func TestBreakerCloses(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		started := make(chan struct{})
		probe := func(ctx context.Context) error {
			close(started)
			<-ctx.Done()
			return ctx.Err()
		}
		b := New("redis", Options{Failures: 1}, probe, nil, slog.New(slog.DiscardHandler))
		b.Failure(errDown)
		<-started // under way when close comes, which waits for it
		b.Close()
		b.Close()
		b.Failure(errDown)
		if b.Allow() {
			t.Error("closed by closing")
		}
	})
	bubble.Run(t, func(t *testing.T) {
		b := New("redis", Options{Failures: 1}, nil, nil, slog.New(slog.DiscardHandler))
		b.Close()
		b.Failure(errDown) // starts nothing
		if !b.Allow() {
			t.Error("opened after its end")
		}
	})
}
