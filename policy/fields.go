package policy

import (
	"net/http"
	"strings"
)

// This file says which fields of a message are kept (RFC 9111 section 3.1, RFC 9110 section 7.6.1).

// setCookieFields set cookies; the second is obsolete and still sets them in old clients.
var setCookieFields = [...]string{"Set-Cookie", "Set-Cookie2"}

// hopByHop are the fields that concern one connection only (RFC 9110 section 7.6.1), canonical; and those that are meant for
// the next proxy alone (sections 11.7.1 to 11.7.3), which a cache does not store (RFC 9111 section 3.1).
var hopByHop = [...]string{
	"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
}

// RemoveHopByHop removes the fields that Connection names and the hop-by-hop ones, in place (RFC 9110 section 7.6.1).
func RemoveHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = trimSpace(name); name != "" {
				delete(h, http.CanonicalHeaderKey(name))
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// RemoveContentDigests removes, in place, the digests of the content of a message (RFC 9530 section 2; Content-MD5: RFC 1864). They are
// wrong beside content that was cut, put together or left out; Repr-Digest, which is of the whole representation, is not.
func RemoveContentDigests(h http.Header) {
	delete(h, "Content-Digest")
	delete(h, "Content-Md5")
}

// StoredHeader returns the fields of a response that are to be stored (section 3.1): all but hop-by-hop ones, Age, those named
// by no-cache="..." and private="...", and Set-Cookie where the rule strips cookies. Date is added when missing. The map is
// new; the values are shared with the response.
func StoredHeader(rs Response, rule *Rule, opt StoreOptions) http.Header {
	d := ParseResponseDirectives(rs.Header, opt.Targets)
	stored := make(http.Header, len(rs.Header)) // Date is hardly ever missing, and eight fields are a smaller map than nine
	for name, values := range rs.Header {
		if !d.unshared(name) {
			stored[name] = values
		}
	}
	RemoveHopByHop(stored)
	delete(stored, "Age")
	if rule.StripCookies {
		for _, name := range setCookieFields {
			delete(stored, name)
		}
	}
	if len(stored["Date"]) == 0 {
		stored["Date"] = []string{headerDate(rs.ResponseTime)}
	}
	return stored
}
