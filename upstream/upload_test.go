package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"cacheproxy/metrics"
)

// openBody is the body of an upload that goes on until it is closed. Like that of an HTTP/2 client its Close ends a Read that waits,
// with an error of its own.
type openBody struct {
	first  *strings.Reader
	closed chan struct{}
}

func (b *openBody) Read(p []byte) (int, error) {
	if n, err := b.first.Read(p); err == nil {
		return n, nil
	}
	<-b.closed
	return 0, errors.New("body closed by handler")
}

func (b *openBody) Close() error {
	close(b.closed)
	return nil
}

// A server that fails while the client still uploads is at fault, and not the client, whose body net/http then closes.
func TestServerFailsDuringAnUpload(t *testing.T) {
	for _, path := range []string{"/reset", "/reset-after-reading"} {
		h2 := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/reset-after-reading" {
				io.ReadFull(r.Body, make([]byte, 5))
			}
			panic(http.ErrAbortHandler)
		})
		m := metrics.New()
		u := mustNew(t, Options{URL: "h2c://" + h2, Metrics: m})
		r := get(t)
		r.Method, r.URL.Path, r.ContentLength = http.MethodPost, path, -1
		r.Body = &openBody{first: strings.NewReader("hello"), closed: make(chan struct{})}
		resp, err := u.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
			t.Fatalf("%s: status %d", path, resp.StatusCode)
		}
		wantCause(t, m, err, ConnectionTerminated)
	}
}
