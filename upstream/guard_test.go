package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// guarded: what a server sends for a request, how much of it may be handed over at most, and what the guard says then.
var guarded = []struct {
	name, method, sends string
	hands               int // -1 = all
	says                string
}{
	{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", -1, ""},
	{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\nT: v\r\n\r\n", -1, ""},
	{"no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n", -1, ""},
	{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", -1, ""},
	{"until the end", "GET", "HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", -1, ""},
	{"interim", "GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", -1, ""},
	{"another protocol", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nany\nthing", -1, ""},
	{"LF throughout", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", -1, ""},
	{"a long line", "GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 1000) + "\r\nContent-Length: 2\r\n\r\nok", -1, ""},
	{"two spaces before the status", "GET", "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", -1, ""},
	{"a fold", "GET", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", -1, ""},

	{"behind a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", 40, "belong to no response"},
	{"behind chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", 52, "belong to no response"},
	{"content of a HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 38, "belong to no response"},
	{"content of a 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", 48, "belong to no response"},
	{"both", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 65, "beside"},
	{"chunks in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 46, "in HTTP/1.0"},
	{"space before the colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 36, "white space"},
	{"LF in a value", "GET", "HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", 21, "LF alone"},
	{"LF LF in a value", "GET", "HTTP/1.1 200 OK\r\nX: a\n\nevil\r\n\r\n", 21, "LF alone"},
	{"HTTP/2.0", "GET", "HTTP/2.0 200 OK\r\n\r\n", 16, "does not begin"},
	{"no HTTP", "GET", "SSH-2.0-OpenSSH\r\n", 16, "does not begin"},
	{"a length behind spaces without end", "GET", "HTTP/1.1 200 OK\r\nContent-Length:" + strings.Repeat(" ", 300) + "2\r\n\r\n", 334, "does not end"},
	{"a coding that is folded", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 65, "is folded"},
	{"a length that is folded", "GET", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\t2\r\n\r\nokok", 37, "is folded"},
	{"unfinished", "GET", "HTTP/1.1 200 OK\r\nContent-Le", -1, ""},
}

// In whatever pieces the bytes come, they are read alike.
func TestGuard(t *testing.T) {
	for _, tt := range guarded {
		for _, piece := range []int{1, 2, 7, 1 << 20} {
			ours, theirs := net.Pipe()
			g := newGuard(ours)
			g.(*guard).take()
			go func() { // the server
				defer theirs.Close()
				_, _ = theirs.Read(make([]byte, 100))
				for p := []byte(tt.sends); len(p) > 0; {
					n, err := theirs.Write(p[:min(piece, len(p))])
					if p = p[n:]; err != nil {
						return
					}
				}
			}()
			if _, err := io.WriteString(g, tt.method+" / HTTP/1.1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(g)
			if err == nil { // the end may have come with the last bytes that are good
				_, err = g.Read(make([]byte, 1))
			}
			g.Close()
			want := tt.hands
			if want < 0 {
				want = len(tt.sends)
			}
			said := ""
			if err != io.EOF {
				said = err.Error()
			}
			if tt.says == "" && len(got) < want || !strings.HasPrefix(tt.sends[:want], string(got)) || !strings.Contains(said, tt.says) || (said == "") != (tt.says == "") {
				t.Errorf("%s in pieces of %d: handed over %q, said %q; want %q, %q", tt.name, piece, got, said, tt.sends[:want], tt.says)
			}
		}
	}
}

// A server answers HEAD with content that is itself a response. Nobody who asks at the same time gets that one.
func TestNobodyGetsTheResponseBehindAnother(t *testing.T) {
	u := mustNew(t, Options{URL: "http://" + rawServer(t, answerHeadsWithMore)})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := range 300 {
				method := http.MethodGet
				if i%2 == 0 {
					method = http.MethodHead
				}
				r, _ := http.NewRequest(method, "http://a/x", nil)
				res, err := u.RoundTrip(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if method == http.MethodGet && string(body) != "good" || err != nil {
					t.Errorf("%s got %q, %v", method, body, err)
					return
				}
			}
		})
	}
	clients.Wait()
}

func answerHeadsWithMore(c net.Conn, r *bufio.Reader) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
	for {
		switch head := readHead(r); {
		case head == "":
			return
		case strings.HasPrefix(head, "HEAD "):
			_, _ = io.WriteString(c, good+good+"evil")
		default:
			_, _ = io.WriteString(c, good+"good")
		}
	}
}

// What the guard finds is the server's fault, by name.
func TestGuardsFindingsHaveACause(t *testing.T) {
	u := mustNew(t, Options{URL: "http://" + rawServer(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))})
	r, _ := http.NewRequest(http.MethodGet, "http://a/x", nil)
	_, err := u.RoundTrip(r)
	var known *Error
	if !errors.As(err, &known) || known.Cause != HTTPProtocolError || !strings.Contains(err.Error(), "beside") {
		t.Errorf("%v", err)
	}
}
