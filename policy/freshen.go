package policy

import (
	"net/http"
	"time"
)

// This file says what a newer head changes in a stored response: that of a 304 (RFC 9111 sections 3.2 and 4.3.4) and that of
// the response to a HEAD (section 4.3.5).

// boundFields describe the stored body or the stored selection of it, which a 304 does not change, or the 304's own content,
// which is empty (Content-Digest: RFC 9530 section 2). A sender that names another value there is wrong about what we hold.
var boundFields = [...]string{
	"Content-Length", "Content-Encoding", "Content-Range", "Content-Md5", "Content-Digest", "Transfer-Encoding", "Age",
}

// Freshen returns the fields of a stored response after an update by a 304 or a HEAD that arrived at responseTime (section 3.2):
// every field of the update replaces the stored one, except
//
//   - those that are bound to the body (boundFields), hop-by-hop ones, and those named by no-cache="..." and private="...";
//   - ETag where the stored response has one: the update was accepted because it is about that one;
//   - Set-Cookie, unless the rule ignores both set-cookie and set-cookie-on-304, so that a refresh, which many clients share,
//     does not hand the cookies of the one who caused it to the others.
//
// Date is that of the update, responseTime where it has none. The map is new, the values are shared. Refreshed does this and
// everything that has to follow.
func Freshen(stored, update http.Header, rule *Rule, opt StoreOptions, responseTime time.Time) http.Header {
	news := StoredHeader(Response{Header: update, ResponseTime: responseTime}, rule, opt)
	for _, name := range boundFields {
		delete(news, name)
	}
	if len(stored["Etag"]) > 0 {
		delete(news, "Etag")
	}
	if !rule.Ignore.Has(IgnoreSetCookie | IgnoreSetCookieOn304) {
		for _, name := range setCookieFields {
			delete(news, name)
		}
	}
	merged := make(http.Header, len(stored)+len(news))
	for name, values := range stored {
		merged[name] = values
	}
	for name, values := range news {
		merged[name] = values
	}
	return merged
}

// Refreshed is what a stored response of that status becomes by an update: a 304 that Freshens it, or a HEAD with HeadFreshens.
// It returns the fields to be stored and their Freshness; a reason other than None says that, by what the update says, the
// response may not be kept. Times and Age are those of the update; rule and url are as for Storable.
func Refreshed(rq Request, status int, stored http.Header, update Response, rule *Rule, url string, opt StoreOptions,
) (http.Header, Freshness, Reason) {
	rs := Response{
		Status:       status,
		Header:       Freshen(stored, update.Header, rule, opt, update.ResponseTime),
		RequestTime:  update.RequestTime,
		ResponseTime: update.ResponseTime,
	}
	if age, found := update.Header["Age"]; found {
		rs.Header["Age"] = age
	}
	rq.Method = http.MethodGet // what is stored answers GET, whatever has asked now
	f, reason := Storable(rq, rs, rule, url, opt)
	if reason != None {
		return nil, Freshness{}, reason
	}
	return StoredHeader(rs, rule, opt), f, None
}

// HeadEffect is what the response to a HEAD says about a stored response to a GET of the same URL.
type HeadEffect uint8

// The effects.
const (
	HeadNothing     HeadEffect = iota // it says nothing
	HeadFreshens                      // it is the same response: update it by Refreshed
	HeadInvalidates                   // it is another response now: treat what is stored as stale
)

// HeadUpdates compares the head of a HEAD's response with a stored response that the HEAD would have selected (section 4.3.5).
// Where both have ETag, Last-Modified and Content-Length they must agree, and one that HEAD has received and we have not is
// another response, except for a Content-Length, which a chunked response lacks: that is overlooked where a validator agrees.
func HeadUpdates(storedStatus int, stored http.Header, headStatus int, head http.Header) HeadEffect {
	switch headStatus {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		if storedStatus == headStatus {
			return HeadNothing
		}
		return HeadInvalidates
	default:
		return HeadNothing
	}
	if storedStatus != http.StatusOK && storedStatus != http.StatusPartialContent {
		return HeadInvalidates
	}
	agree := 0
	for _, name := range [...]string{"Etag", "Last-Modified"} {
		if v := head[name]; len(v) > 0 {
			if len(stored[name]) == 0 || stored[name][0] != v[0] {
				return HeadInvalidates
			}
			agree++
		}
	}
	if length, said := contentLength(head); said {
		held, known := representationLength(storedStatus, stored)
		if known && held != length || !known && agree == 0 {
			return HeadInvalidates
		}
	}
	return HeadFreshens
}

// representationLength is the length of the whole of what a stored response holds or holds a part of; false where it is not known.
func representationLength(status int, h http.Header) (int64, bool) {
	if status == http.StatusPartialContent {
		part, ok := partOf(h)
		return part.Total, ok
	}
	return contentLength(h)
}
