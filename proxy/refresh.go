package proxy

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"cacheproxy/policy"
)

// refresh revalidates, in the background, the stale response that is being served (RFC 5861 section 3). A refresh is an ordinary
// journey whose client throws the answer away: it joins or leads the same fills. Only so many run at once; when there is no
// slot, or the fetch is under way, a later request will start it.
func (j *journey) refresh() {
	h, key := j.h, j.fillKey()
	if !h.fills.claimRefresh(key) {
		return
	}
	select {
	case h.refreshes <- struct{}{}:
	default:
		h.fills.endRefresh(key)
		h.refused(policy.RefreshLimit)
		return
	}
	b := j.behind()
	h.work.Add(1)
	go func() {
		defer h.work.Done()
		defer func() { <-h.refreshes }()
		defer h.fills.endRefresh(key)
		b.fetchQuietly()
	}()
}

// behind makes the journey that goes on behind the client's back.
func (j *journey) behind() *journey {
	b := *j
	b.r = j.r.Clone(j.h.stop)
	b.r.Method, b.r.Body, b.r.ContentLength = http.MethodGet, http.NoBody, 0
	header := j.rq.Header.Clone()
	for _, h := range [...]http.Header{b.r.Header, header} {
		policy.ClearConditionals(h)
		delete(h, "Cache-Control") // the client's wishes are about its own request
		delete(h, "Pragma")
	}
	b.rq.Method, b.rq.Header = http.MethodGet, header
	b.rq.Directives = policy.RequestDirectives{}
	b.in.Method, b.in.Header = http.MethodGet, b.r.Header
	b.w, b.out, b.held = &devNull{header: make(http.Header)}, nil, nil
	b.decision = policy.Decision{}
	b.outcome = policy.Outcome{Fwd: policy.FwdStale}
	return &b
}

// fetchQuietly is fetch where nobody sees a panic: ReverseProxy panics to abort a connection, and here is none.
func (j *journey) fetchQuietly() {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			j.h.opt.Log.Error("a background refresh panicked", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	j.fetch()
}

// devNull is the client of a background journey.
type devNull struct{ header http.Header }

func (w *devNull) Header() http.Header         { return w.header }
func (w *devNull) Write(p []byte) (int, error) { return len(p), nil }
func (w *devNull) WriteHeader(int)             {}
func (w *devNull) Flush()                      {}
