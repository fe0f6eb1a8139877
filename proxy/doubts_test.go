package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/internal/bubble"
	"cacheproxy/invalidation"
	"cacheproxy/metrics"
)

// stack is Doubts whose log the test plays.
type stack struct {
	*Doubts
	ledger
	t    *testing.T
	m    *metrics.Metrics
	hold chan struct{} // where it is not nil, a record ends when it can be read from
}

// onStack runs f in a bubble, and closes.
func onStack(t *testing.T, f func(*stack)) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		s := &stack{t: t, m: metrics.New(), ledger: ledger{receipt: &invalidation.Receipt{Sequence: 7, Applied: []string{"r"}}}}
		s.Doubts = NewDoubts(DoubtsOptions{Metrics: s.m, Log: slog.New(slog.DiscardHandler), Purge: func(ctx context.Context, p invalidation.Purge) (*invalidation.Receipt, error) {
			if err := p.Check(); err != nil {
				t.Errorf("%v: %.200v", err, p)
			}
			r, err := s.purge(ctx, p)
			if s.hold != nil {
				<-s.hold
			}
			return r, err
		}})
		f(s)
		s.Close()
		if len(s.waiting)+len(s.urls)+len(s.others)+s.size+len(s.origins)+s.underWay != 0 {
			t.Errorf("left: %d waiting, %d bytes, %v", len(s.waiting), s.size, s.origins)
		}
	})
}

func (s *stack) becomes(what string) func(int) *turn {
	return func(i int) *turn { return s.enter("response to POST", []doubt{urlDoubt(fmt.Sprintf(what, i))})[0] }
}

func urlDoubt(url string) doubt { return doubt{origin: invalidation.OriginOf(url), url: url} }

func (s *stack) fails(err error) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	if s.receipt = nil; err == nil {
		s.receipt = &invalidation.Receipt{Sequence: 8, Applied: []string{"r"}}
	}
	s.err = err
}

func (s *stack) counts(want string) {
	s.t.Helper()
	counts := counted(s.t, s.m)
	for part := range strings.SplitSeq(want, ", ") {
		var name string
		var n float64
		if _, err := fmt.Sscan(part, &n, &name); err != nil {
			s.t.Fatal(err)
		}
		if got := counts["purges_total "+name+" unsafe"]; got != n {
			s.t.Errorf("%v %s, want %v", got, name, n)
		}
	}
}

// The first is entered at once and by itself; what comes within the pace goes together, and so does what one response names.
func TestDoubtsWaitTogether(t *testing.T) {
	onStack(t, func(s *stack) {
		post := s.becomes("http://a.example/%d")
		start := time.Now()
		first := post(0)
		<-first.done
		if time.Since(start) != 0 || first.seq != 7 || !slices.Equal(s.took(), []string{"url http://a.example/0"}) {
			t.Errorf("the first: after %v, %d", time.Since(start), first.seq)
		}
		var last *turn
		for i := range 100 {
			last = post(1 + i%50)
		}
		synctest.Wait()
		if s.records() != 1 {
			t.Error("not paced")
		}
		<-last.done
		if took := s.took(); time.Since(start) != pace || s.records() != 2 || len(took) != 50 {
			t.Errorf("%d in %d records after %v", len(took), s.records(), time.Since(start))
		}
		time.Sleep(pace)
		turns := s.enter("response to PUT", []doubt{urlDoubt("http://a.example/a"), urlDoubt("http://a.example/b"), {origin: "http://a.example", group: "g"}})
		for _, one := range turns {
			<-one.done
		}
		if took := s.took(); s.records() != 4 || len(took) != 3 || time.Since(start) != 2*pace {
			t.Errorf("%q in %d records after %v", took, s.records()-2, time.Since(start))
		}
		s.counts("53 ok")
	})
}

// What one record does not take goes into others of the same round, and what is under way does not do for who comes later.
func TestDoubtsFillRecords(t *testing.T) {
	onStack(t, func(s *stack) {
		s.hold = make(chan struct{})
		post := s.becomes("http://a.example/%d")
		post(0)
		again := post(0)
		for i := range 3*invalidation.MaxURLs - 1 {
			post(i + 1)
		}
		synctest.Wait()
		if s.records() != 1 {
			t.Errorf("%d records before the pace is over", s.records())
		}
		time.Sleep(pace)
		synctest.Wait()
		if s.records() != 4 { // the first alone, and three that are full
			t.Errorf("%d records", s.records())
		}
		close(s.hold)
		<-again.done
		if took := s.took(); len(took) != 3*invalidation.MaxURLs+1 {
			t.Errorf("%d", len(took))
		}
	})
}

// Long URLs make several records. Of a group that no record can name its origin is purged, and everything where not even that can be named.
func TestDoubtsThatAreLong(t *testing.T) {
	onStack(t, func(s *stack) {
		long := "http://a.example/" + strings.Repeat("x", 20<<10)
		var list []doubt
		for i := range 4 {
			list = append(list, urlDoubt(fmt.Sprint(long, i)))
		}
		list = append(list, doubt{origin: "http://[::1]", group: strings.Repeat("x", 300)}, doubt{origin: "http://b.example", group: "\xff"}, doubt{origin: "\xff", group: "g"})
		for _, one := range s.enter("response to POST", list) {
			<-one.done
		}
		took, want := s.took(), []string{"all", "pattern http://\\[::1\\]/*", "pattern http://b.example/*"}
		if s.records() != 5 || len(took) != 7 || !slices.Equal(took[:3], want) {
			t.Errorf("%d records, %.40q, want %q", s.records(), took, want)
		}
	})
}

// A round waits until the one before would have been written at speed, also when what waits fills records; the end does not.
func TestDoubtsArePacedByBytes(t *testing.T) {
	onStack(t, func(s *stack) {
		long, start := s.becomes("http://a.example/"+strings.Repeat("x", 60<<10)+"%d"), time.Now()
		size := 0
		<-long(0).done
		for i := range 3 {
			one := long(1 + i)
			size += one.size()
			if i == 2 {
				<-one.done
			}
		}
		synctest.Wait() // the other records of the round have begun too
		if s.records() != 4 || time.Since(start) != writing(size/3) {
			t.Errorf("%d records after %v", s.records(), time.Since(start))
		}
		short := s.becomes("http://a.example/%d")
		for i := range 2 * invalidation.MaxURLs {
			short(i)
		}
		<-short(0).done
		synctest.Wait()
		if s.records() != 6 || time.Since(start) != writing(size/3)+writing(size) {
			t.Errorf("%d records after %v", s.records(), time.Since(start))
		}
		short(1)
		s.Close()
		if s.records() != 7 || time.Since(start) != writing(size/3)+writing(size) {
			t.Errorf("%d records at the end after %v", s.records(), time.Since(start))
		}
	})
}

// However long the URLs and however many, what is entered is bounded in bytes; more than can wait is purged with its origin.
func TestDoubtsAreBoundedInBytes(t *testing.T) {
	onStack(t, func(s *stack) {
		const seconds = 10
		long := s.becomes("http://a.example/" + strings.Repeat("x", 30<<10) + "%d")
		for i := range seconds * int(time.Second/pace) {
			long(i)
			time.Sleep(pace)
		}
		size := 0
		for _, url := range s.took() {
			size += len(url)
		}
		if most := seconds*speed + maxUnderWay*invalidation.MaxURLsSize; size > most || size < seconds*speed/2 {
			t.Errorf("%d bytes in %d records, want %d at most", size, s.records(), most)
		}
		if s.size > maxWaitingSize {
			t.Errorf("%d bytes wait", s.size)
		}
	})
}

// A slow replica, for which each record waits, holds no other record up.
func TestDoubtsGoOnBesideSlowReplicas(t *testing.T) {
	onStack(t, func(s *stack) {
		s.hold = make(chan struct{})
		post := s.becomes("http://a.example/%d")
		for i := range 10 {
			post(i)
			time.Sleep(pace)
		}
		synctest.Wait()
		if s.records() != 10 {
			t.Errorf("%d records", s.records())
		}
		for i := range 100 {
			post(i)
			time.Sleep(pace)
		}
		synctest.Wait()
		if s.records() != maxUnderWay {
			t.Errorf("%d records", s.records())
		}
		close(s.hold)
	})
}

// What the log does not take is tried until it does; whoever came with it goes on after the first try.
func TestDoubtsAreTriedAgain(t *testing.T) {
	onStack(t, func(s *stack) {
		s.fails(errors.New("no Redis"))
		post := s.becomes("http://a.example/%d")
		start := time.Now()
		one := post(0)
		<-one.done
		if time.Since(start) != 0 || one.seq != 0 {
			t.Errorf("after %v", time.Since(start))
		}
		time.Sleep(firstPause / 2)
		two := post(1)
		<-two.done
		if time.Since(start) != firstPause || s.records() != 2 {
			t.Errorf("%d records after %v", s.records(), time.Since(start))
		}
		time.Sleep(time.Hour)
		if n := s.records(); n < 3590 || n > 3605 {
			t.Errorf("%d tries in an hour", n)
		}
		s.settle() // it does not wait for the log
		s.fails(nil)
		s.took()
		time.Sleep(lastPause)
		synctest.Wait()
		if got := s.took(); !slices.Equal(got, []string{"url http://a.example/0", "url http://a.example/1"}) {
			t.Errorf("%q", got)
		}
		n := s.records()
		<-post(2).done // as if nothing had been
		if s.records() != n+1 {
			t.Error("not entered")
		}
		s.counts("3 ok")
	})
}

// When too much waits, the origin of which most does is purged as a whole, and the others one by one as ever.
func TestDoubtsAreBounded(t *testing.T) {
	onStack(t, func(s *stack) {
		s.fails(errors.New("no Redis"))
		few, many := s.becomes("http://few.example/%d"), s.becomes("http://many.example/%d")
		few(0)
		for i := range 99 {
			few(i + 1)
		}
		var absorbed *turn
		for i := range maxWaiting - 100 {
			absorbed = many(i)
		}
		if len(s.waiting) != maxWaiting {
			t.Fatalf("%d wait", len(s.waiting))
		}
		few(100)
		if len(s.waiting) != 102 || many(5) != many(maxWaiting) {
			t.Errorf("%d wait", len(s.waiting))
		}
		<-absorbed.done
		s.fails(nil)
		s.took()
		time.Sleep(lastPause)
		s.settle()
		if took := s.took(); len(took) != 102 || took[0] != "pattern http://many.example/*" {
			t.Errorf("%d: %.200q", len(took), took)
		}
		s.counts(fmt.Sprintf("%d coarse, 102 ok", maxWaiting-100))
	})
}

// Where no origin has many, all is purged; nor is the room in bytes exceeded.
func TestDoubtsOfManyOrigins(t *testing.T) {
	onStack(t, func(s *stack) {
		s.hold = make(chan struct{})
		post := s.becomes("http://%d.example/" + strings.Repeat("x", 1000))
		for i := 0; s.waiting[doubt{}] == nil; i++ {
			post(i)
			if s.size > maxWaitingSize || i > maxWaiting {
				t.Fatalf("%d bytes wait", s.size)
			}
		}
		if len(s.waiting) != 1 || post(5) != post(6) {
			t.Errorf("%d wait", len(s.waiting))
		}
		close(s.hold)
		s.settle()
		if took := s.took(); took[0] != "all" {
			t.Errorf("%.200q", took)
		}
	})
}

// At its end a process tries once more, and says what is lost.
func TestDoubtsAtTheEnd(t *testing.T) {
	for _, err := range []error{nil, errors.New("no Redis")} {
		onStack(t, func(s *stack) {
			s.fails(errors.New("no Redis"))
			for i := range 1000 {
				s.becomes("http://a.example/%d")(i)
			}
			time.Sleep(time.Minute)
			s.fails(err)
			start := time.Now()
			s.took()
			s.Close()
			if time.Since(start) != 0 {
				t.Errorf("after %v", time.Since(start))
			}
			if took := s.took(); err == nil {
				s.counts("1000 ok, 0 lost")
			} else if s.counts("0 ok, 1000 lost"); len(took) != invalidation.MaxURLs {
				t.Errorf("%d tried", len(took))
			}
		})
	}
}

// However many requests change one URL, one record is being entered, and one more waits for all who come meanwhile: it is of after them.
func TestRFC9111Section4_4RecordsOfOneURLAreMerged(t *testing.T) {
	const n = 100
	var begun, goOn chan struct{}
	onStage(t, func(s *stage) {
		var ended []<-chan struct{}
		for range n {
			ended = append(ended, s.post(httptest.NewRecorder()))
		}
		synctest.Wait()
		time.Sleep(pace)
		synctest.Wait()
		if len(begun) != 2 {
			t.Errorf("%d are being entered", len(begun))
		}
		close(goOn)
		for _, done := range ended {
			<-done
		}
		s.h.Settle()
		if len(begun) != 2 {
			t.Errorf("%d were entered", len(begun))
		}
		<-s.post(httptest.NewRecorder())
		if len(begun) != 3 {
			t.Errorf("a later request entered %d", len(begun)-2)
		}
	}, func(o *Options) {
		begun, goOn = make(chan struct{}, 10*n), make(chan struct{})
		o.PurgeWait = time.Hour
		o.Purge = func(_ context.Context, p invalidation.Purge) (*invalidation.Receipt, error) {
			if len(p.URLs) != 2 { // the target and the one of Location
				t.Errorf("%+v", p)
			}
			begun <- struct{}{}
			<-goOn
			return nil, nil
		}
	})
}
