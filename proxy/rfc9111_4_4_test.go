package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
	"cacheproxy/policy"
)

// RFC 9111 section 4.4: what an unsafe request makes doubtful is entered in the log under its cache URLs.
func TestRFC9111Section4_4IsEnteredInTheLog(t *testing.T) {
	rules := []policy.RuleSpec{{Key: policy.KeySpec{Query: policy.QuerySpec{Ignore: []string{"utm_*"}}}}}
	longest := "/?" + strings.Repeat("x", invalidation.MaxURLsSize-len("http://shop.example/?"))
	for _, tt := range []struct {
		name, method, target string
		status               int
		fields               []string
		want                 []string
	}{
		{"the target", "POST", "/cart?a=1&utm_x=2", 200, nil, []string{"url http://shop.example/cart?a=1"}},
		{"Location and Content-Location", "PUT", "/cart", 201, []string{"Location: /items/7", "Content-Location: /list?utm_y=1#top"},
			[]string{"url http://shop.example/cart", "url http://shop.example/items/7", "url http://shop.example/list"}},
		{"as written too", "POST", "/", 200, []string{"Location: /a|b"},
			[]string{"url http://shop.example/", "url http://shop.example/a%7Cb", "url http://shop.example/a|b"}},
		{"one cache URL once", "POST", "/a", 200, []string{"Location: /a?utm_x=1"}, []string{"url http://shop.example/a"}},
		{"another origin", "POST", "/", 200, []string{"Location: http://other.example/"}, []string{"url http://shop.example/"}},
		{"not UTF-8", "POST", "/login?\xff", 200, nil, nil},
		{"not UTF-8, with a group", "POST", "/login?\xff", 200, []string{`Cache-Group-Invalidation: "g"`}, []string{"group http://shop.example g"}},
		{"a Location that is not UTF-8", "POST", "/", 200, []string{"Location: /a?\xff", "Content-Location: /b"},
			[]string{"url http://shop.example/", "url http://shop.example/b"}},
		{"longer than a record", "POST", "/?" + strings.Repeat("x", invalidation.MaxURLsSize), 200, nil, nil},
		{"as long as a record", "POST", longest, 200, nil, []string{"url http://shop.example" + longest}},
		{"a failure", "POST", "/", 403, []string{"Location: /a"}, nil},
		{"a safe method", "GET", "/", 200, []string{"Location: /a"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l ledger
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				for _, f := range tt.fields {
					name, value, _ := strings.Cut(f, ": ")
					w.Header().Set(name, value)
				}
				w.WriteHeader(tt.status)
			}, l.keeps, withRules(t, rules...))
			r.do(tt.method, tt.target, nil, "Host: shop.example")
			if got := l.took(); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// An origin that the log cannot name is that of a Host under which nothing is stored: a request with it is no reason to forget what is.
func TestRFC9111Section4_4OriginsThatAreNone(t *testing.T) {
	var l ledger
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Group-Invalidation", `"g"`) }, l.keeps)
	r.do("POST", "/", nil, "Host: "+strings.Repeat("a", 9<<10)).is(t, 200, "").status(t, "cacheproxy; fwd=bypass; detail=ambiguous-host")
	if got := l.took(); got != nil {
		t.Errorf("%.200q", got)
	}
}

// post sends a POST through the stage, whose upstream answers it, and returns what the client has been sent when no goroutine can go on.
func (s *stage) post(w *httptest.ResponseRecorder) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		s.h.ServeHTTP(w, httptest.NewRequest("POST", "http://shop.example/cart", strings.NewReader("x")))
	}()
	(<-s.calls).whole(303, "done", "Location: /list", "Content-Length: 4")
	return done
}

// The head, on which the client acts, waits for the records; so the client's next request finds them applied, wherever it goes.
func TestRFC9111Section4_4HeadWaitsForTheLog(t *testing.T) {
	var entered chan struct{}
	onStage(t, func(s *stage) {
		w := httptest.NewRecorder()
		w.Code = 0
		done := s.post(w)
		synctest.Wait() // nobody can go on: the records are being entered
		if w.Code != 0 || w.Body.Len() > 0 {
			t.Errorf("sent before the records were: %d %q", w.Code, w.Body)
		}
		start := time.Now()
		close(entered)
		<-done
		if w.Code != 303 || w.Body.String() != "done" || time.Since(start) != 0 {
			t.Errorf("%d %q after %v", w.Code, w.Body, time.Since(start))
		}
	}, func(o *Options) {
		entered = make(chan struct{})
		o.Purge = func(context.Context, invalidation.Purge) (*invalidation.Receipt, error) { <-entered; return nil, nil }
	})
}

// A log that does not answer costs the response PurgeWait, not more, and what comes late is entered all the same. The client may have left.
func TestRFC9111Section4_4HeadWaitsNoLonger(t *testing.T) {
	var m *metrics.Metrics
	var late chan struct{}
	onStage(t, func(s *stage) {
		w := httptest.NewRecorder()
		start := time.Now()
		<-s.post(w)
		if took := time.Since(start); w.Code != 303 || w.Body.String() != "done" || took != 70*time.Millisecond {
			t.Errorf("%d %q after %v", w.Code, w.Body, took)
		}
		synctest.Wait() // what else ends at this instant has ended: the record's own time too
		close(late)
		s.h.Settle()
		if counts := counted(t, m); counts["purges_total unconfirmed unsafe"] != 2 {
			t.Errorf("%v", counts)
		}
	}, func(o *Options) {
		m, late = metrics.New(), make(chan struct{})
		o.Metrics, o.PurgeWait = m, 70*time.Millisecond
		o.Purge = func(context.Context, invalidation.Purge) (*invalidation.Receipt, error) { <-late; return nil, nil }
	})
}

// A hook that panics ends nothing but itself.
func TestRFC9111Section4_4PanicInTheLog(t *testing.T) {
	r := newRig(t, cacheable, func(o *Options) {
		o.Metrics = metrics.New()
		o.Purge = func(context.Context, invalidation.Purge) (*invalidation.Receipt, error) { panic("on purpose") }
	})
	r.do("POST", "/", nil).is(t, 200, "0123456789")
	r.h.Settle()
	if counts := counted(t, r.h.opt.Metrics); counts["purges_total error unsafe"] != 1 {
		t.Errorf("%v", counts)
	}
}

// This process forgets before anybody is told, log or not.
func TestRFC9111Section4_4IsForgottenHereAtOnce(t *testing.T) {
	l := ledger{err: errors.New("no Redis")}
	r := newRig(t, cacheable, l.keeps)
	r.get("/a")
	r.do("POST", "/a", nil)
	r.get("/a").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
}
