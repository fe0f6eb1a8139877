package wire

import (
	"fmt"
	"strings"
	"testing"
)

func newScanner() *scanner { return &scanner{most: 1 << 10, lines: 10} }

// messages follows text in pieces of so many bytes, and returns how many messages ended, and the fault.
func messages(text string, piece int) (ended int, fault *Fault) {
	s := newScanner()
	for p := []byte(text); len(p) > 0; {
		n, fault := s.scan(p[:min(piece, len(p))])
		if fault != nil {
			return ended, fault
		}
		if p = p[n:]; s.state == atBoundary {
			ended++
			s.begin()
		}
	}
	if !s.idle() {
		return ended, &Fault{Name: "unfinished"}
	}
	return ended, nil
}

const host = "Host: a\r\n"

// scans: what is sent, how many messages end in it, and the fault that the scanner stops at.
var scans = []struct {
	name, text string
	ended      int
	fault      string
}{
	{"GET", "GET / HTTP/1.1\r\n" + host + "\r\n", 1, ""},
	{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 1, ""},
	{"an empty line before", "\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 0, "request-line"},
	{"an empty line behind a GET", "GET / HTTP/1.1\r\n" + host + "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 1, "request-line"},
	{"an empty line behind a POST", "POST / HTTP/1.1\r\n" + host + "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 2, ""},
	{"two empty lines behind a POST", "POST / HTTP/1.1\r\n" + host + "\r\n\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 1, "request-line"},
	{"Expect", "POST / HTTP/1.1\r\n" + host + "Expect: 100-Continue\r\n\r\n", 1, ""},
	{"Expect of something else", "POST / HTTP/1.1\r\n" + host + "Expect: y 100-continue\r\n\r\n", 0, "expectation"},
	{"an empty Expect", "POST / HTTP/1.1\r\n" + host + "Expect:\r\n\r\n", 0, "expectation"},
	{"Expect twice", "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n", 0, "expectation"},
	{"Kelvin sign in chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chun\u212aed\r\n\r\n", 0, "coding"},
	{"long s in https", "GET http\u017f://a/ HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"length twice, spelled otherwise", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 01\r\n\r\na", 0, "length"},
	{"two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 0, "request-line"},
	{"raw bytes in the target", "GET /a|b^\"c\x80?%zz;b HTTP/1.1\r\n" + host + "\r\n", 1, ""},
	{"pipelined", strings.Repeat("GET / HTTP/1.1\r\n"+host+"\r\n", 3), 3, ""},
	{"length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n" + host + "\r\n", 2, ""},
	{"length twice, the same", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\ncontent-length: 1 \r\n\r\na", 1, ""},
	{"chunks", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0a;x=\"y\"\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 2, ""},
	{"absolute-form", "GET HTTP://A:80/b?c HTTP/1.1\r\n" + host + "\r\n", 1, ""},
	{"asterisk-form", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 1, ""},
	{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 1, ""},
	{"IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 1, ""},
	{"tabs and obs-text in values", "GET / HTTP/1.1\r\n" + host + "X:\t\x80\t y \r\n\r\n", 1, ""},
	{"an empty value", "GET / HTTP/1.1\r\n" + host + "X:\r\n\r\n", 1, ""},

	{"bare LF after the request line", "GET / HTTP/1.1\n" + host + "\r\n", 0, "bare-lf"},
	{"bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 0, "bare-lf"},
	{"bare LF at the end", "GET / HTTP/1.1\r\n" + host + "\n", 0, "bare-lf"},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 0, "bare-cr"},
	{"bare CR at the end", "GET / HTTP/1.1\r\n" + host + "\r\r\n", 0, "bare-cr"},
	{"no version", "GET /\r\n\r\n", 0, "request-line"},
	{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", 0, "request-line"},
	{"space in the target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", 0, "request-line"},
	{"tab", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", 0, "method"},
	{"no method", " / HTTP/1.1\r\n" + host + "\r\n", 0, "request-line"},
	{"method", "G@T / HTTP/1.1\r\n" + host + "\r\n", 0, "method"},
	{"version 2", "GET / HTTP/2.0\r\n" + host + "\r\n", 0, "version"},
	{"version 1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", 0, "version"},
	{"version 1.10", "GET / HTTP/1.10\r\n" + host + "\r\n", 0, "request-line"},
	{"version in small letters", "GET / http/1.1\r\n" + host + "\r\n", 0, "request-line"},
	{"fragment", "GET /#a HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"no form", "GET a HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"asterisk for GET", "GET * HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"another scheme", "GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"user information", "GET http://b@a/ HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"CONNECT without port", "CONNECT a HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"CONNECT to a path", "CONNECT / HTTP/1.1\r\n" + host + "\r\n", 0, "target"},
	{"obs-fold", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", 0, "obs-fold"},
	{"fold of the request line", "GET / HTTP/1.1\r\n " + host + "\r\n", 0, "obs-fold"},
	{"space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 0, "field-name"},
	{"no name", "GET / HTTP/1.1\r\n" + host + ": a\r\n\r\n", 0, "field-name"},
	{"no colon", "GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", 0, "field-name"},
	{"NUL in a value", "GET / HTTP/1.1\r\nX: \x00\r\n" + host + "\r\n", 0, "field-value"},
	{"no Host", "GET / HTTP/1.1\r\nX: a\r\n\r\n", 0, "host-missing"},
	{"no Host with absolute-form", "GET http://a/ HTTP/1.1\r\n\r\n", 0, "host-missing"},
	{"two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", 0, "host-repeated"},
	{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, "host"},
	{"a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0, "host"},
	{"a Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 0, "host"},
	{"another Host than the target's", "GET http://b/ HTTP/1.1\r\n" + host + "\r\n", 0, "host-contradicts"},
	{"length and coding", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "length-and-coding"},
	{"lengths differ", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 0, "length"},
	{"a list of lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\n", 0, "length"},
	{"a signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\n", 0, "length"},
	{"an empty length", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", 0, "length"},
	{"a length that overflows", "POST / HTTP/1.1\r\n" + host + "Content-Length: 9223372036854775808\r\n\r\n", 0, "length"},
	{"two codings lines", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "coding"},
	{"chunked twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n", 0, "coding"},
	{"chunked not last", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, identity\r\n\r\n", 0, "coding"},
	{"identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", 0, "coding"},
	{"chunked with a parameter", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked;a\r\n\r\n", 0, "coding"},
	{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "coding"},
	{"gzip, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, "unknown-coding"},
	{"chunk size with a sign", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 0, "chunk"},
	{"chunk size with a prefix", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 0, "chunk"},
	{"space after the chunk size", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 0, "chunk"},
	{"chunk size that overflows", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", 0, "chunk"},
	{"no chunk size", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n;a\r\nabc\r\n0\r\n\r\n", 0, "chunk"},
	{"LF in a chunk extension", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n", 0, "bare-lf"},
	{"LF after a chunk size", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 0, "bare-lf"},
	{"a chunk that is longer", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 0, "chunk"},
	{"LF after a chunk", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", 0, "bare-lf"},
	{"a length in the trailers", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", 0, "trailer"},
	{"fold in the trailers", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n T: 1\r\n\r\n", 0, "obs-fold"},
	{"a long target", "GET /" + strings.Repeat("a", 1<<10) + " HTTP/1.1\r\n" + host + "\r\n", 0, "target-too-long"},
	{"a long field", "GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 1<<10) + "\r\n\r\n", 0, "head-too-large"},
	{"many fields", "GET / HTTP/1.1\r\n" + host + strings.Repeat("X: a\r\n", 10) + "\r\n", 0, "too-many-fields"},
	{"the second is at fault", "GET / HTTP/1.1\r\n" + host + "\r\nGET / HTTP/1.1\r\n\r\n", 1, "host-missing"},
}

// In whatever pieces the bytes come, they are read alike.
func TestScanner(t *testing.T) {
	for _, tt := range scans {
		for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, piece), func(t *testing.T) {
				ended, fault := messages(tt.text, piece)
				name := ""
				if fault != nil {
					name = fault.Name
				}
				if ended != tt.ended || name != tt.fault {
					t.Errorf("%d messages ended, fault %q; want %d, %q", ended, name, tt.ended, tt.fault)
				}
			})
		}
	}
}

func TestFaultsAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Faults() {
		if seen[f.Name] || f.Detail == "" {
			t.Errorf("%+v", f)
		}
		seen[f.Name] = true
	}
}

func BenchmarkScan(b *testing.B) {
	head := []byte("GET /catalogue/products/1234567?color=red HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Connection: keep-alive\r\nCookie: a=b; c=d\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\r\n")
	s := &scanner{most: 32 << 10, lines: 256}
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		if n, fault := s.scan(head); n != len(head) || fault != nil {
			b.Fatal(n, fault)
		}
		s.begin()
	}
}
