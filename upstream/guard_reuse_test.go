package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A server answers before it has had all of a request, and takes the rest then. What comes of the content behind the response is no
// request, whatever it looks like, and the request after it is judged by its own method.
func TestContentBehindAnEarlyResponseIsNoRequest(t *testing.T) {
	const much = 64 << 10 // more than net/http gathers before it writes
	for _, rest := range []string{"HEAD /x HTTP/1.1\r\n", "any"} {
		u := mustNew(t, Options{URL: "http://" + rawServer(t, func(c net.Conn, r *bufio.Reader) { answerEarly(c, r, much+len(rest)) })})
		content, more := io.Pipe()
		sent := make(chan struct{})
		go func() {
			_, _ = io.WriteString(more, strings.Repeat("a", much))
			<-sent
			_, _ = io.WriteString(more, rest)
			more.Close()
		}()
		post, _ := http.NewRequest(http.MethodPost, "http://a/x", content)
		post.ContentLength = int64(much + len(rest))
		res, err := u.RoundTrip(post)
		if err != nil {
			t.Fatal(err)
		}
		close(sent) // the guard has seen the end: it came together with the head
		_, _ = io.ReadAll(res.Body)
		res.Body.Close()
		for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodGet} {
			r, _ := http.NewRequest(method, "http://a/x", nil)
			res, err := u.RoundTrip(r)
			if err != nil {
				t.Fatalf("%s behind %q: %v", method, rest, err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if method == http.MethodGet && string(body) != "good" || err != nil {
				t.Errorf("%s behind %q got %q, %v", method, rest, body, err)
			}
		}
	}
}

// answerEarly answers each request when its head is there, and then takes length bytes of what a POST brings.
func answerEarly(c net.Conn, r *bufio.Reader, length int) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
	for {
		head := readHead(r)
		switch {
		case head == "":
			return
		case strings.HasPrefix(head, "HEAD "):
			_, _ = io.WriteString(c, good)
			continue
		}
		_, _ = io.WriteString(c, good+"good")
		if strings.HasPrefix(head, "POST ") {
			_, _ = io.CopyN(io.Discard, r, int64(length))
		}
	}
}
