package witness

import (
	"strings"
	"testing"
)

// readings: what is sent, what the witness reads of it, and its doubt.
var readings = []struct {
	name, text string
	side       Side
	reads      string
	doubt      string // how it begins
}{
	{"GET", "GET /a HTTP/1.1\r\nHost: b\r\n\r\n", FromProxy, "GET /a b", ""},
	{"length", "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nxyGET /c HTTP/1.1\r\nHost: b\r\n\r\n", FromProxy, `POST /a b "xy", GET /c b`, ""},
	{"chunks", "POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\nT: v\r\n\r\n", FromProxy, `POST /a b "xy"`, ""},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", FromProxy, "OPTIONS * b", ""},
	{"a client's absolute-form", "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", FromClient, "GET http://a/b a", ""},
	{"a client's empty line", "\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", FromClient, "GET /a a", ""},

	{"absolute-form", "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", FromProxy, "", "the target is in a form"},
	{"an empty line", "\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", FromProxy, "", "a request line of other"},
	{"LF", "GET /a HTTP/1.1\nHost: a\r\n\r\n", FromProxy, "", "byte 0x0a"},
	{"CR", "GET /a HTTP/1.1\r\nHost: a\rb\r\n\r\n", FromProxy, "", "byte 0x0d"},
	{"NUL", "GET /a HTTP/1.1\r\nHost: a\x00\r\n\r\n", FromProxy, "", "byte 0x00"},
	{"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", FromProxy, "", "a request line of other"},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", FromProxy, "", "the target has bytes"},
	{"version", "GET /a HTTP/2.0\r\nHost: a\r\n\r\n", FromProxy, "", "version"},
	{"fold", "GET /a HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", FromProxy, "", "no field line"},
	{"space before the colon", "GET /a HTTP/1.1\r\nHost : a\r\n\r\n", FromProxy, "", "no field line"},
	{"no Host", "GET /a HTTP/1.1\r\n\r\n", FromProxy, "", "0 Host fields"},
	{"two Hosts", "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", FromClient, "", "2 Host fields"},
	{"user information", "GET /a HTTP/1.1\r\nHost: b@a\r\n\r\n", FromClient, "", "a Host that is none"},
	{"both", "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", FromClient, "", "Content-Length with"},
	{"other coding", "POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", FromClient, "", "a coding that"},
	{"the same length twice", "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", FromProxy, "", "several"},
	{"another length", "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", FromClient, "", "a Content-Length that"},
	{"signed length", "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: +1\r\n\r\nx", FromClient, "", "a Content-Length that"},
	{"chunk extension", "POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n", FromProxy, "", "a chunk extension"},
	{"chunk size", "POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", FromClient, "", "no chunk size"},
	{"chunk end", "POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n", FromClient, "", "a chunk does not end"},
	{"trailer", "POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: a\r\n\r\n", FromClient, "", "framing"},
	{"unfinished", "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nx", FromProxy, "", "unfinished"},
}

func TestReadings(t *testing.T) {
	for _, tt := range readings {
		all, _, err := ParseAll([]byte(tt.text), tt.side)
		var texts []string
		for _, m := range all {
			texts = append(texts, m.String())
		}
		doubt := ""
		if err != nil {
			doubt = err.Error()
		}
		if got := strings.Join(texts, ", "); got != tt.reads || !strings.HasPrefix(doubt, tt.doubt) || (doubt == "") != (tt.doubt == "") {
			t.Errorf("%s: reads %q, doubt %q; want %q, %q", tt.name, got, doubt, tt.reads, tt.doubt)
		}
	}
}

// Where everything is there but the end, nothing is in doubt yet.
func TestUnfinished(t *testing.T) {
	for _, tt := range readings {
		if tt.doubt != "" {
			continue
		}
		for i := range len(tt.text) {
			if _, rest, err := ParseAll([]byte(tt.text[:i]), tt.side); err != nil && err != errMore {
				t.Errorf("%s: after %q: %v of %q", tt.name, tt.text[:i], err, rest)
			}
		}
	}
}
