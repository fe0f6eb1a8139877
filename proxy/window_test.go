package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/policy"
)

func small(o *Options) {
	o.Cache.MaxObject = 64 << 10
	o.Collapse.Window = 32 << 10
}

func TestBodyTooLargeToStoreStreamsOnInAWindow(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(3, "/")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		go func() {
			_, _ = body.Write(want)
			_ = body.Close()
		}()
		wantAll(t, all, 200, string(want))
		synctest.Wait()
		if held := s.h.fills.memory.Load(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
		s.wantCalls(1)
	}, small)
}

func TestSlowReaderOfAWindowGoesOnAlone(t *testing.T) {
	for _, c := range []struct {
		name, tag string
		leads     bool // the slow one, whose request is sent
		whole     bool
	}{
		{"with a strong validator", `ETag: "v1"`, false, true},
		{"with a strong validator, the leader", `ETag: "v1"`, true, true},
		{"without", `ETag: W/"v1"`, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				slow, fast := &asker{block: make(chan struct{})}, &asker{}
				leader, other := fast, slow
				if c.leads {
					leader, other = slow, fast
				}
				s.asking(leader, "/")
				synctest.Wait()
				s.asking(other, "/")
				synctest.Wait()
				body := (<-s.calls).answer(200, "Cache-Control: max-age=60", c.tag)
				want := strings.Repeat("0123456789abcdef", 1<<14) // 256 KiB
				begin(body, want)
				go func() {
					_, _ = io.WriteString(body, want[1:])
					_ = body.Close()
				}()
				<-fast.done // after a second of the bubble's time, which the slow one may hold it back
				if fast.body.String() != want {
					t.Error("the fast reader's body is wrong")
				}
				go func() {
					for {
						select {
						case slow.block <- struct{}{}:
						case <-slow.done:
							return
						}
					}
				}()
				if c.whole {
					again := <-s.calls
					var from int
					if _, err := parseFrom(again.Header.Get("Range"), &from); err != nil || again.Header.Get("If-Range") != `"v1"` {
						t.Fatalf("%v %v", again.Header, err)
					}
					again.whole(206, want[from:], c.tag, "Content-Range: "+contentRange(policy.ByteRange{First: int64(from), Last: int64(len(want)) - 1}, int64(len(want))))
				}
				<-slow.done
				if ok := slow.body.String() == want && slow.aborted == nil; ok != c.whole {
					t.Errorf("the slow reader got %d of %d bytes, ended with %v", slow.body.Len(), len(want), slow.aborted)
				}
				if !c.whole && slow.aborted != http.ErrAbortHandler { //nolint:errorlint // the very value
					t.Errorf("ended with %v", slow.aborted)
				}
			}, small)
		})
	}
}

func TestOneSlowReaderSetsItsOwnPace(t *testing.T) {
	onStage(t, func(s *stage) {
		slow := &asker{block: make(chan struct{})}
		s.asking(slow, "/")
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		want := strings.Repeat("0123456789abcdef", 1<<14)
		begin(body, want)
		go func() {
			_, _ = io.WriteString(body, want[1:])
			_ = body.Close()
		}()
		for {
			time.Sleep(time.Hour) // the bubble's clock
			select {
			case slow.block <- struct{}{}:
				continue
			case <-slow.done:
			}
			break
		}
		if slow.body.String() != want || slow.aborted != nil {
			t.Errorf("got %d of %d bytes, ended with %v", slow.body.Len(), len(want), slow.aborted)
		}
	}, small)
}

func TestFillsWithoutMemoryAreNotShared(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(2, "/")
		synctest.Wait()
		(<-s.calls).whole(200, "x", "Cache-Control: max-age=60")
		(<-s.calls).whole(200, "x", "Cache-Control: max-age=60")
		wantAll(t, all, 200, "x")
	}, func(o *Options) { o.Collapse.Memory = 100 })
}

func parseFrom(rangeField string, from *int) (int, error) {
	return fmt.Sscanf(rangeField, "bytes=%d-", from)
}

// begin sends the first byte, and lets ReverseProxy's first flush, which waits for a lock that synctest does not see, come before
// a Write that blocks.
func begin(body io.Writer, want string) {
	_, _ = io.WriteString(body, want[:1])
	synctest.Wait()
}

// Readers that stand still at one and the same place are left behind together.
func TestTwoStalledReadersHoldNobodyBack(t *testing.T) {
	onStage(t, func(s *stage) {
		stalled := []*asker{{block: make(chan struct{})}, {block: make(chan struct{})}}
		for _, a := range stalled {
			s.asking(a, "/")
		}
		fast := s.ask("/")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		want := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB: many windows
		begin(body, want)
		go func() {
			_, _ = io.WriteString(body, want[1:])
			_ = body.Close()
		}()
		select {
		case <-fast.done:
		case <-time.After(4 * time.Second): // of the bubble's clock: a second for each of the stalled, and none for each window
			t.Error("the fast reader waits")
		}
		for _, a := range stalled {
			close(a.block)
			<-a.done
		}
		wantAll(t, []*asker{fast}, 200, want)
	}, small)
}

// The rest that is fetched for a slow reader alone is the whole rest, or it is an error.
func TestSlowReaderIsNotGivenHalfOfTheRest(t *testing.T) {
	onStage(t, func(s *stage) {
		slow := &asker{block: make(chan struct{})}
		s.asking(slow, "/")
		fast := s.ask("/")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60", `ETag: "v1"`)
		want := strings.Repeat("0123456789abcdef", 1<<14)
		begin(body, want)
		go func() {
			_, _ = io.WriteString(body, want[1:])
			_ = body.Close()
		}()
		<-fast.done
		close(slow.block)
		again := <-s.calls
		var from int
		if _, err := parseFrom(again.Header.Get("Range"), &from); err != nil {
			t.Fatal(err)
		}
		again.whole(206, want[from:from+10], `ETag: "v1"`, "Content-Range: "+contentRange(policy.ByteRange{First: int64(from), Last: int64(from) + 9}, int64(len(want))))
		if <-slow.done; slow.aborted == nil {
			t.Errorf("ended well after %d of %d bytes", slow.body.Len(), len(want))
		}
	}, small)
}

// A reader that goes on and on, but slowly, has the same second as one that stands still: else it would set the pace of all.
func TestCreepingReaderDoesNotSetThePace(t *testing.T) {
	onStage(t, func(s *stage) {
		slow := &asker{block: make(chan struct{})}
		s.asking(slow, "/")
		fast := s.ask("/")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		want := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB: 64 writes of the slow one
		begin(body, want)
		go func() {
			_, _ = io.WriteString(body, want[1:])
			_ = body.Close()
		}()
		began := time.Now()
		go func() {
			for {
				select {
				case <-time.After(900 * time.Millisecond): // of the bubble's clock
				case <-slow.done:
					return
				}
				select {
				case slow.block <- struct{}{}:
				case <-slow.done:
					return
				}
			}
		}()
		wantAll(t, []*asker{fast}, 200, want)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the fast reader was held back for %v", took)
		}
		<-slow.done
	}, small, func(o *Options) { o.Collapse.Window = 256 << 10 })
}

// One who has been sent an interim response, and does not read it, has not begun to read the body: nobody waits for it.
func TestReaderWhoDoesNotBeginHoldsNobodyBack(t *testing.T) {
	onStage(t, func(s *stage) {
		fast := s.ask("/")
		synctest.Wait()
		stuck := s.asking(&asker{blockHints: make(chan struct{})}, "/")
		synctest.Wait()
		c := <-s.calls
		_ = httptrace.ContextClientTrace(c.Context()).Got1xxResponse(103, textproto.MIMEHeader{"Link": {"</x>"}})
		synctest.Wait()
		body := c.answer(200, "Cache-Control: max-age=60")
		want := strings.Repeat("0123456789abcdef", 1<<16)
		begin(body, want)
		go func() {
			_, _ = io.WriteString(body, want[1:])
			_ = body.Close()
		}()
		select {
		case <-fast.done:
		case <-time.After(4 * time.Second):
			t.Error("the fast reader waits")
		}
		close(stuck.blockHints)
		<-stuck.done
		wantAll(t, []*asker{fast}, 200, want)
	}, small)
}
