package proxy

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/policy"
)

// Who did not ask for it does not get a stale response because the one did whose request was sent.
func TestStaleIfErrorOfARequestIsForThatRequest(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "old", "Cache-Control: max-age=10", `ETag: "1"`)
		wantAll(t, []*asker{a}, 200, "old")
		time.Sleep(11 * time.Second)
		lenient := s.ask("/", "Cache-Control: stale-if-error=600")
		synctest.Wait()
		c := <-s.calls
		strict := s.ask("/")
		synctest.Wait()
		c.reply <- result{err: errors.New("refused")}
		(<-s.calls).reply <- result{err: errors.New("refused")}
		wantAll(t, []*asker{lenient}, 200, "old")
		if <-strict.done; strict.code != 502 {
			t.Errorf("%d %q", strict.code, strict.body.String())
		}
	})
}

// strip_cookies takes Set-Cookie from the response too: the one that is streamed as the one that is stored.
func TestStrippedCookiesReachNobody(t *testing.T) {
	for _, cc := range []string{"max-age=60", "private"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Cache-Control", cc)
			w.Header().Set("Set-Cookie", "id="+req.Header.Get("Cookie"))
		}, withRules(t, policy.RuleSpec{StripCookies: true}))
		for range 2 {
			if a := r.get("/", "Cookie: a=b"); a.Header["Set-Cookie"] != nil {
				t.Errorf("%v", a.Header)
			}
		}
	}
}

// What a request wants of a stored response it wants of another one's fetch.
func TestRequestDirectivesHoldForAFetchThatIsUnderWay(t *testing.T) {
	for _, c := range []struct {
		field string
		joins bool
	}{
		{"Cache-Control: no-cache", false}, {"Cache-Control: max-age=0", false}, {"Pragma: no-cache", false},
		{"Cache-Control: max-age=5", false}, {"Cache-Control: max-age=50", true}, {"Cache-Control: min-fresh=55", false},
		{"X-Plain: 1", true},
	} {
		t.Run(c.field, func(t *testing.T) {
			onStage(t, func(s *stage) {
				a := s.ask("/")
				body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
				synctest.Wait()
				time.Sleep(10 * time.Second)
				b := s.ask("/", c.field)
				synctest.Wait()
				if !c.joins {
					(<-s.calls).whole(200, "new", "Cache-Control: max-age=60")
					wantAll(t, []*asker{b}, 200, "new")
				}
				_, _ = io.WriteString(body, "old")
				_ = body.Close()
				wantAll(t, []*asker{a}, 200, "old")
				if c.joins {
					wantAll(t, []*asker{b}, 200, "old")
				}
			})
		})
	}
}

func TestStaleFetchIsNotJoined(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		body := (<-s.calls).answer(200, "Cache-Control: max-age=10")
		synctest.Wait()
		time.Sleep(11 * time.Second)
		b := s.ask("/")
		(<-s.calls).whole(200, "new", "Cache-Control: max-age=10")
		wantAll(t, []*asker{b}, 200, "new")
		_, _ = io.WriteString(body, "old")
		_ = body.Close()
		wantAll(t, []*asker{a}, 200, "old")
	})
}

// One refresh at a time for what is stored under one key, even where nothing is collapsed; and without the wishes of the client
// who was served meanwhile.
func TestOneRefreshAtATime(t *testing.T) {
	no := false
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "1", "Cache-Control: max-age=10, stale-while-revalidate=60")
		wantAll(t, []*asker{a}, 200, "1")
		time.Sleep(11 * time.Second)
		wantAll(t, s.askMany(20, "/", "Cache-Control: only-if-cached"), 200, "1")
		c := <-s.calls
		synctest.Wait()
		s.wantCalls(2)
		if c.Header["Cache-Control"] != nil {
			t.Errorf("%v", c.Header)
		}
		c.whole(200, "2", "Cache-Control: max-age=10, stale-while-revalidate=60")
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "2")
	}, withRules(t, policy.RuleSpec{Collapse: &no}))
}
