package policy

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// The key is made from the bytes that are forwarded, so that two requests which an origin can tell apart by their target never
// share a stored response, whatever either side thinks of %2f, "//", ";" or case. Only what HTTP itself calls equal is folded
// (the case of scheme and host, the default port, RFC 9110 section 4.2.3), and only what a rule names is left out - and that is
// then not forwarded either.

// Key names a stored resource; Vary then tells its variants apart.
type Key struct {
	// URL is the normalised cache URL scheme://host/path?query: scheme and host in lower case without default port, path and
	// query byte for byte as forwarded. Bytes of the host that no host has are percent-encoded, so that the path begins where
	// it seems to; a target that is no path ("*") follows a "#".
	URL string
	// Extras are the values named by key.headers, key.cookies and key.session, in an injective encoding (see appendExtra); ""
	// when the rule names none. They may be secrets: not for logs.
	Extras string
}

// Origin is scheme://host[:port] of the URL, without the default port: to what cache groups belong (RFC 9875 section 2).
func (k Key) Origin() string {
	scheme, rest, found := strings.Cut(k.URL, "://")
	if !found {
		return ""
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return scheme + "://" + rest
}

// KeyRule is the compiled key part of a rule. Its zero value asks for nothing.
type KeyRule struct {
	Headers []string // canonical names of request fields that are part of the key
	Cookies []string // names of cookies that are
	Session []string // names of session fields that are

	ignore, allow []glob // over names of query parameters
	sort          bool
}

// ForwardQuery returns the query as it is to be forwarded and keyed, and rawQuery itself when the rule asks for nothing or for
// nothing that changes it. Parameters are split at "&" only and never re-encoded; a name matches as it stands or decoded. With
// sorting, empty parameters go too.
//
// What a parser that also splits at ";" would see as a further parameter shares the fate of the one it hides in: dropped with
// it, or forwarded and keyed with it.
func (k *KeyRule) ForwardQuery(rawQuery string) string {
	if rawQuery == "" || k.ignore == nil && k.allow == nil && !k.sort {
		return rawQuery
	}
	var few [16]queryParam // enough for most, and not on the heap
	params := few[:0]
	changed := false
	for rest, more := rawQuery, true; more; {
		var p queryParam
		p.raw, rest, more = strings.Cut(rest, "&")
		rawName, _, _ := strings.Cut(p.raw, "=")
		p.name = decodeQuery(rawName)
		if !k.keeps(p.raw, rawName, p.name) {
			changed = true
			continue
		}
		changed = changed || k.sort && len(params) > 0 && p.name < params[len(params)-1].name
		params = append(params, p)
	}
	if !changed {
		return rawQuery
	}
	if k.sort {
		slices.SortStableFunc(params, func(a, b queryParam) int { return cmp.Compare(a.name, b.name) })
	}
	var b strings.Builder
	b.Grow(len(rawQuery))
	for i, p := range params {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.raw)
	}
	return b.String()
}

type queryParam struct{ name, raw string }

// QueryChanges says what ForwardQuery does to a query, for people: the parameters that it leaves out, as they came, and whether what is
// left is in another order.
func (k *KeyRule) QueryChanges(rawQuery string) (dropped []string, sorted bool) {
	forwarded := k.ForwardQuery(rawQuery)
	if forwarded == rawQuery {
		return nil, false
	}
	var kept []string
	for raw := range strings.SplitSeq(rawQuery, "&") {
		rawName, _, _ := strings.Cut(raw, "=")
		if k.keeps(raw, rawName, decodeQuery(rawName)) {
			kept = append(kept, raw)
		} else if raw != "" {
			dropped = append(dropped, raw)
		}
	}
	return dropped, strings.Join(kept, "&") != forwarded
}

func (k *KeyRule) keeps(param, rawName, name string) bool {
	if k.sort && param == "" {
		return false
	}
	if k.allow != nil && !matchesName(k.allow, rawName, name) {
		return false
	}
	return !matchesName(k.ignore, rawName, name)
}

func matchesName(globs []glob, rawName, name string) bool {
	for i := range globs {
		if globs[i].match(name) || globs[i].match(rawName) {
			return true
		}
	}
	return false
}

// Key makes the key of a request from what is forwarded of it. scheme is "http" or "https", this proxy's own word; host is as
// received; escapedPath is the target up to the query, byte for byte ("" is forwarded as "/"), with a "?" at its end where the
// query is there but empty (url.URL.ForceQuery); query is from ForwardQuery; header and session are read only where the rule
// names fields of theirs. It allocates once when the rule names none.
func (k *KeyRule) Key(scheme, host, escapedPath, query string, header http.Header, session map[string]string) Key {
	scheme = strings.ToLower(scheme)
	host = withoutDefaultPort(scheme, host)
	var b strings.Builder
	b.Grow(len(scheme) + len("://") + keyHostLen(host) + len("/") + len(escapedPath) + len("?") + len(query))
	b.WriteString(scheme)
	b.WriteString("://")
	writeKeyHost(&b, host)
	switch {
	case escapedPath == "":
		b.WriteByte('/')
	case escapedPath[0] != '/':
		b.WriteByte('#')
	}
	b.WriteString(escapedPath)
	if query != "" {
		b.WriteByte('?')
		b.WriteString(query)
	}
	key := Key{URL: b.String()}
	if len(k.Headers)+len(k.Cookies)+len(k.Session) > 0 {
		key.Extras = k.extras(header, session)
	}
	return key
}

// keyHostBytes holds for each byte of a host what stands for it in a key: itself in lower case, or 0 where it is percent-encoded.
// Those of RFC 3986 section 3.2.2 and the port's colon stand for themselves, less "%", which introduces the encoding.
var keyHostBytes = func() (table [256]byte) {
	for c := range len(table) {
		if isLetterOrDigit(byte(c)) || c != 0 && strings.IndexByte("-._~!$&'()*+,;=:[]", byte(c)) >= 0 {
			table[c] = lowerByte(byte(c))
		}
	}
	return table
}()

// keyHostLen returns the length of what writeKeyHost writes.
func keyHostLen(host string) int {
	n := len(host)
	for i := 0; i < len(host); i++ {
		if keyHostBytes[host[i]] == 0 {
			n += 2
		}
	}
	return n
}

// writeKeyHost writes a host in lower case, percent-encoding what ends the host of a URL or begins it anew ("/", "?", "#", "@",
// "\") and all that belongs into none: a Host field may hold these, and "a/b" with path "/c" must not be "a" with "/b/c".
func writeKeyHost(b *strings.Builder, host string) {
	const digits = "0123456789ABCDEF"
	done := 0 // bytes written; those up to i stand for themselves
	for i := 0; i < len(host); i++ {
		c := host[i]
		if keyHostBytes[c] == c && c != 0 {
			continue
		}
		b.WriteString(host[done:i])
		done = i + 1
		if lower := keyHostBytes[c]; lower != 0 {
			b.WriteByte(lower)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	b.WriteString(host[done:])
}
