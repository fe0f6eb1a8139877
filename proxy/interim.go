package proxy

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// interim is a 1xx response.
type interim struct {
	status int
	header http.Header
}

// passOn hands an interim response to the hook that ReverseProxy has left in the outbound request's context.
func (n interim) passOn(ctx context.Context) {
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.Got1xxResponse != nil {
		_ = trace.Got1xxResponse(n.status, textproto.MIMEHeader(n.header))
	}
}

// maxInterims bounds the interim responses that are kept for those who come before the head.
const maxInterims = 32

// hint has an interim response passed on to everybody. The leader, who is sending the request and cannot look, has a goroutine do
// it: this one is the transport's, and a client that does not read must not keep the head from all.
func (f *fill) hint(n interim, leader context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.interims) == maxInterims {
		return
	}
	f.interims = append(f.interims, n)
	f.changed()
	if f.hinted == nil {
		f.hinted = make(chan struct{})
		go func() {
			defer close(f.hinted)
			_, _ = f.follow(leader)
		}()
	}
}
