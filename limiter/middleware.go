package limiter

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

var reservations = sync.Pool{New: func() any { return new(Reservation) }}

// Middleware holds the requests to next to all of the limits in use, at most MaxLimits. A request that one refuses is answered with a
// problem (RFC 9457) that is not to be stored. What next answers with a status of 5xx counts as an Error, and all else as a Miss.
func (l *Limiter) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set, err := l.Current().All()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		held, _ := reservations.Get().(*Reservation)
		defer reservations.Put(held)
		address := l.client(r)
		set.Reserve(r.Context(), &Asker{Request: r, Client: l.network(address), Address: address}, held)
		held.SetFields(w.Header())
		if held.Refused() {
			held.refuse(w)
			return
		}
		if !set.dynamic { // what it costs is known
			next.ServeHTTP(w, r)
			return
		}
		watched := &watcher{ResponseWriter: w}
		defer func() { held.Settle(watched.outcome()) }()
		next.ServeHTTP(watched, r)
		watched.done = true
	})
}

// refuse answers for the limit.
func (r *Reservation) refuse(w http.ResponseWriter) {
	status := r.Status()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json")
	h.Set("Retry-After", strconv.FormatInt(max(1, int64((r.RetryAfter()+time.Second-1)/time.Second)), 10))
	body, _ := json.Marshal(map[string]any{ // strings and a number: cannot fail
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": r.Detail(), "limit": r.Limit(),
	})
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that left is nobody to tell
}

// Detail says in a sentence why the request is refused.
func (r *Reservation) Detail() string {
	if r.Unavailable() {
		return "the limit " + strconv.Quote(r.Limit()) + " cannot be asked at this moment"
	}
	return "too many requests: the limit " + strconv.Quote(r.Limit()) + " is used up"
}

// client is who sent a request, for Middleware.
func (l *Limiter) client(r *http.Request) netip.Addr {
	if l.opt.Client != nil {
		return l.opt.Client(r)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// network cuts an IPv6 address to what makes one client.
func (l *Limiter) network(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(l.opt.IPv6Prefix)
	if err != nil {
		return a
	}
	return p.Addr()
}

// watcher sees the status of a response.
type watcher struct {
	http.ResponseWriter
	status int
	done   bool
}

// WriteHeader implements http.ResponseWriter.
func (w *watcher) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *watcher) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher, for handlers that ask for it.
func (w *watcher) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() } // where nothing can be flushed, all comes at the end

// Hijack implements http.Hijacker, for handlers that ask for it.
func (w *watcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watcher) outcome() Outcome {
	if w.status >= 500 || !w.done { // or it has panicked
		return Error
	}
	return Miss
}
