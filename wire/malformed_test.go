package wire

import (
	"net/http"
	"testing"
	"time"
)

// Content that is at fault behind a good request, which came with it, is no reason to give that one up.
func TestFaultInTheNextContent(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			close(started)
			select {
			case <-finish:
			case <-r.Context().Done():
				t.Error("the client was thought to have left")
			}
		}
		echo(w, r)
	}, Options{}, Source{})
	c := s.dial()
	c.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0G")
	<-started
	time.AfterFunc(20*time.Millisecond, func() { close(finish) }) // time for net/http to look whether the client is there
	c.gets(200, "GET /1 ")
	c.gets(400, "bad content\n")
	c.ended()
	if got := s.faults(); got != "chunk" {
		t.Errorf("refused: %s", got)
	}
}
