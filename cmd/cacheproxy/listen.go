package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// listen opens an address of the configuration: host:port, :port or unix:/path. A socket file on which connections are refused is
// what a killed process left behind, and is replaced. Any other failure to connect, as where the queue of a busy process is full, says
// nothing of the kind.
func listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	listener, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	if info, statErr := os.Stat(path); statErr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	conn, dialErr := net.DialTimeout("unix", path, time.Second)
	if dialErr == nil {
		conn.Close()
	}
	if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// listenError says which key to change.
func listenError(err error, key, flag string) error {
	return failure{fmt.Errorf("%s: %w (choose another address with %s)", key, err, flag)}
}

// pacedWriter is a response of HTTP/2, some of which the client must take in time. The network may take bytes that the client's window does
// not let go, so that wire cannot see to that as it does in HTTP/1.1.
type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

func newPacedWriter(w http.ResponseWriter, timeout time.Duration) *pacedWriter {
	return &pacedWriter{w, http.NewResponseController(w), timeout}
}

// Unwrap is for http.ResponseController.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// arm sets the deadline of this stream alone; it fails when the stream has ended, and so does writing.
func (w *pacedWriter) arm() { _ = w.control.SetWriteDeadline(time.Now().Add(w.timeout)) }

// rest lets the handler take its time.
func (w *pacedWriter) rest() { _ = w.control.SetWriteDeadline(time.Time{}) }

// Write implements io.Writer.
func (w *pacedWriter) Write(p []byte) (int, error) {
	w.arm()
	defer w.rest()
	return w.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (w *pacedWriter) FlushError() error {
	w.arm()
	defer w.rest()
	return w.control.Flush()
}

// pacedBody is the content of an HTTP/2 request, each further piece of which must come in time. wire sees to that in HTTP/1.1.
//
// It may be read when the handler has returned, as net/http's client sends content in a goroutine of its own, which goes on for a while when
// an upstream has answered early. The response, whose deadlines these are, must not be touched then.
type pacedBody struct {
	io.ReadCloser
	timeout time.Duration

	mu      sync.Mutex
	control *http.ResponseController // nil when the handler has returned
}

func newPacedBody(w http.ResponseWriter, body io.ReadCloser, timeout time.Duration) *pacedBody {
	return &pacedBody{ReadCloser: body, timeout: timeout, control: http.NewResponseController(w)}
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	b.set(time.Now().Add(b.timeout))
	n, err := b.ReadCloser.Read(p)
	b.set(time.Time{})
	return n, err
}

// set sets the deadline of this stream alone; it fails when the stream has ended, and so does reading.
func (b *pacedBody) set(deadline time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.control != nil {
		_ = b.control.SetReadDeadline(deadline)
	}
}

// end says that the handler returns.
func (b *pacedBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.control = nil
}
