package upstream

// The request target (RFC 9112 section 3.2) that reaches the server is the one that reached us, with the base path in front.
// net/http writes URL.Opaque, or else URL.EscapedPath(), then "?" and RawQuery, so:
//
//   - A path made only of bytes that RFC 3986 allows in one passes through Path and RawPath unchanged, %2F and %2f alike.
//   - Any other path (`/a|b^"c`, or bytes above 0x7f) is changed by EscapedPath and must come in URL.Opaque to stay as it is.
//   - Opaque that starts with // would be sent as http://..., an absolute-form target that names another host. With a base path
//     it does not start so; without one it is not used, and EscapedPath is sent: //a|b becomes //a%7Cb.
//   - The query passes as it is, with ; and %zz and without its order being touched; a lone "?" needs URL.ForceQuery.
//   - Control bytes are refused by net/http. A space is not, and would end the target inside the request line, where an HTTP/2
//     client could choose what follows; it is refused here.
//   - `OPTIONS *` stays as it is, without the base path. CONNECT is refused: this is no tunnel.

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// target returns the URL to send r to. Its error says why r cannot be sent to any server.
func (a *address) target(r *http.Request) (*url.URL, error) {
	if r.Method == http.MethodConnect {
		return nil, fmt.Errorf("method CONNECT: not a tunnel")
	}
	u := &url.URL{Scheme: a.wire(), Host: a.host, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	switch opaque := r.URL.Opaque; {
	case opaque != "" && opaque[0] != '/':
		return nil, fmt.Errorf("target %q: want a path", opaque)
	case opaque != "" && (a.base.Path != "" || !strings.HasPrefix(opaque, "//")):
		u.Opaque = a.base.RawPath + opaque
	case r.URL.Path == "*":
		u.Path = "*"
	case a.base.Path == "":
		u.Path, u.RawPath = r.URL.Path, r.URL.RawPath
	default:
		u.Path, u.RawPath = a.base.Path+r.URL.Path, a.base.RawPath+r.URL.EscapedPath()
	}
	if i := firstUnsendable(u.Opaque); i >= 0 {
		return nil, fmt.Errorf("byte %#02x in the path: not allowed in a request target", u.Opaque[i])
	}
	if i := firstUnsendable(u.RawQuery); i >= 0 {
		return nil, fmt.Errorf("byte %#02x in the query: not allowed in a request target", u.RawQuery[i])
	}
	return u, nil
}

// firstUnsendable returns the index of the first byte that would break the request line, or -1.
func firstUnsendable(s string) int {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return i
		}
	}
	return -1
}
