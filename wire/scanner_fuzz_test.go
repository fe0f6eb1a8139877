package wire

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// reading is what the scanner has made of one message.
type reading struct {
	message, content []byte
}

// readings follows data byte by byte, up to a fault or the end.
func readings(data []byte) (all []reading) {
	s := &scanner{most: 4 << 10, lines: 50}
	var r reading
	for _, b := range data {
		inContent := s.state == atLength || s.state == atChunk
		if n, fault := s.scan([]byte{b}); n == 0 || fault != nil {
			return all
		}
		r.message = append(r.message, b)
		if inContent {
			r.content = append(r.content, b)
		}
		if s.state == atBoundary {
			all = append(all, r)
			r = reading{}
			s.begin()
		}
	}
	return all
}

// FuzzScanner holds the scanner to net/http: what it lets pass net/http reads as the same request, to the same byte. net/http may refuse
// more.
func FuzzScanner(f *testing.F) {
	for _, tt := range scans {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, r := range readings(data) {
			message := bytes.TrimPrefix(r.message, []byte("\r\n"))
			buffered := bufio.NewReader(bytes.NewReader(message))
			q, err := http.ReadRequest(buffered)
			if err != nil {
				if !refusedByNetHTTP(err.Error()) {
					t.Fatalf("%q passes, and net/http says: %v", r.message, err)
				}
				return // and closes the connection
			}
			method, rest, _ := strings.Cut(string(message), " ")
			target, _, _ := strings.Cut(rest, " ")
			if q.Method != method || q.RequestURI != target {
				t.Fatalf("%q: net/http reads %s %s", r.message, q.Method, q.RequestURI)
			}
			content, err := io.ReadAll(q.Body)
			if err != nil || !bytes.Equal(content, r.content) {
				t.Fatalf("%q: net/http reads the content %q, %v; the scanner %q", r.message, content, err, r.content)
			}
			if left, _ := io.ReadAll(buffered); len(left) > 0 {
				t.Fatalf("%q: to net/http %q belongs to the next message", r.message, left)
			}
			if hosts := q.Header["Host"]; len(hosts) > 0 || q.ProtoMajor != 1 {
				t.Fatalf("%q: %q, %s", r.message, hosts, q.Proto)
			}
		}
	})
}

// refusedByNetHTTP reports whether an error of net/http's is about what has one reading, which it refuses all the same.
func refusedByNetHTTP(err string) bool {
	return strings.HasPrefix(err, "parse ") || // a target with a bad percent-encoding, a bad port
		strings.HasPrefix(err, "bad trailer key") // an announced trailer that could frame a message
}
