package upstream

// An exchange is one request and its response. It exists to tell, when something fails, who failed: the caller gave up (its
// context), the client's body broke off (its reader), the server went silent (the gap timer), or else what net/http says.
//
// The gap timer measures only while somebody waits: a Read of the response's body sets it, its return stops it. When it fires it
// cancels the exchange's own context, which is the documented way to make net/http let go of a connection. That costs no
// goroutine, and a timer that is reset costs well under a microsecond a read.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// errGap is the cause with which the gap timer cancels.
var errGap = errors.New("idle_timeout")

type exchange struct {
	member *Member
	caller context.Context // the request's own
	ctx    context.Context // what net/http sees; the caller's own when there is no gap timer
	cancel context.CancelCauseFunc
	body   *requestBody // nil for a request without a body
}

func newExchange(m *Member, r *http.Request) *exchange {
	x := &exchange{member: m, caller: r.Context()}
	x.ctx = x.caller
	if m.idle > 0 {
		x.ctx, x.cancel = context.WithCancelCause(x.caller)
	}
	return x
}

// end releases the context. It may be called more than once.
func (x *exchange) end() {
	if x.cancel != nil {
		x.cancel(nil)
	}
}

// explain turns an error of net/http into ours, looking first at what only we know.
func (x *exchange) explain(err error, p phase) *Error {
	switch {
	case context.Cause(x.ctx) == errGap:
		return &Error{ConnectionReadTimeout, fmt.Errorf("no more of the body for %v", x.member.idle)}
	case errors.Is(x.caller.Err(), context.DeadlineExceeded):
		return &Error{HTTPResponseTimeout, x.caller.Err()}
	case x.caller.Err() != nil:
		return &Error{CauseNone, x.caller.Err()}
	}
	if p == inHead && x.body != nil {
		if broken := x.body.broken.Load(); broken != nil {
			return &Error{HTTPRequestError, fmt.Errorf("reading the request's body: %w", *broken)}
		}
	}
	var dialled *Error
	if errors.As(err, &dialled) {
		return dialled // says its cause already
	}
	return &Error{causeOf(err, p), err}
}

// requestBody remembers how reading the client's body failed. net/http reads it on a goroutine of its own.
type requestBody struct {
	io.ReadCloser
	broken atomic.Pointer[error]
	closed atomic.Bool // net/http gave the exchange up, or has read enough
}

func (x *exchange) watchRequestBody(body io.ReadCloser) io.ReadCloser {
	if body == nil || body == http.NoBody {
		return body
	}
	x.body = &requestBody{ReadCloser: body}
	return x.body
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	// That of a Read which Close ended, or which came after it, is no news about the client.
	if err != nil && err != io.EOF && !b.closed.Load() {
		b.broken.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *requestBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// responseBody limits the gaps and classifies failures.
type responseBody struct {
	io.ReadCloser
	exchange *exchange
	gap      *time.Timer // nil without IdleTimeout
	closed   atomic.Bool
	err      error // the one that ended it, given again to whoever reads on
}

func (x *exchange) watchResponseBody(body io.ReadCloser) io.ReadCloser {
	b := &responseBody{ReadCloser: body, exchange: x}
	if x.cancel != nil {
		b.gap = time.AfterFunc(x.member.idle, func() { x.cancel(errGap) })
		b.gap.Stop()
	}
	return b
}

// Read implements io.Reader; errors other than io.EOF are *Error.
func (b *responseBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.gap != nil {
		b.gap.Reset(b.exchange.member.idle)
	}
	n, err := b.ReadCloser.Read(p)
	if b.gap != nil {
		b.gap.Stop()
	}
	if err != nil {
		b.err = b.ended(err)
	}
	return n, b.err
}

func (b *responseBody) ended(err error) error {
	if err == io.EOF {
		b.exchange.end()
		return io.EOF
	}
	if b.closed.Load() {
		return &Error{CauseNone, err}
	}
	explained := b.exchange.explain(err, inBody)
	b.exchange.end()
	return b.exchange.member.failed(explained)
}

// Close implements io.Closer. It may be called while Read waits.
func (b *responseBody) Close() error {
	b.closed.Store(true)
	if b.gap != nil {
		b.gap.Stop()
	}
	err := b.ReadCloser.Close()
	b.exchange.end()
	return err
}
