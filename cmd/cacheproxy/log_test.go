package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// rawOrigin answers every request with the same bytes, which need not be HTTP, and keeps the connection.
func rawOrigin(t *testing.T, answer string) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for requests := bufio.NewReader(conn); ; {
					r, err := http.ReadRequest(requests)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(conn, answer)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// What is printed with package log is a line of the log like any other, and shows nothing of what an upstream sent.
func TestUpstreamSendsMoreThanItsResponse(t *testing.T) {
	url := rawOrigin(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, secret \"and\" quoted")
	p := start(t, nil, "--upstream", url)
	if got := ask(t, p.public+"/"); got.body != "hello" {
		t.Errorf("%+v", got)
	}
	if line := p.await("upstream: bytes that belong to no response came from " + strings.TrimPrefix(url, "http://")); line["level"] != "WARN" {
		t.Errorf("it is logged as %v", line)
	}
	if strings.Contains(p.text(), "secret") {
		t.Errorf("the log shows what was sent:\n%s", p.text())
	}
}
