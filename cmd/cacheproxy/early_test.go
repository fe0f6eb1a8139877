package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// An upstream answers uploads when it has their heads, while their content is still on its way: over HTTP/2 each request has its response,
// and the process goes on.
func TestResponsesBeforeTheContentHasCome(t *testing.T) {
	p := start(t, nil, "--upstream", earlyOrigin(t))
	client := &http.Client{Transport: transportOf(true, false), Timeout: limit}
	t.Cleanup(client.CloseIdleConnections)
	var uploads sync.WaitGroup
	for range 8 {
		uploads.Go(func() {
			for range 40 {
				content, more := io.Pipe()
				answered := make(chan struct{})
				go func() {
					for {
						if _, err := io.WriteString(more, strings.Repeat("a", 1000)); err != nil {
							return
						}
						select {
						case <-answered:
							more.Close()
							return
						case <-time.After(time.Millisecond):
						}
					}
				}()
				res, err := client.Post(p.public+"/x", "text/plain", content)
				close(answered)
				if err != nil {
					t.Error(err)
					return
				}
				text, err := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode != http.StatusForbidden || string(text) != "no" || err != nil {
					t.Errorf("%d %q, %v", res.StatusCode, text, err)
				}
			}
		})
	}
	uploads.Wait()
	if status := ask(t, p.operator+"/livez").status; status != http.StatusOK {
		t.Errorf("/livez: %d", status)
	}
}

// earlyOrigin answers each request with 403 when its head is there, and then takes whatever comes.
func earlyOrigin(t *testing.T) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
				_, _ = io.Copy(io.Discard, r)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}
