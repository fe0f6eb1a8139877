package proxy

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// The request as it would be forwarded is settled here, once, before the key is made and before Vary is looked at: a response
// that depends on a field which the key does not know is how caches are poisoned. So a field either reaches the upstream and
// can be nominated by Vary, or it does not reach it at all:
//
//   - fields that change what a request means (X-Original-URL, X-HTTP-Method-Override ...) or that describe hops before us
//     (X-Forwarded-Host ...) are dropped unless the peer is trusted; from a trusted peer they are passed on, and the
//     exchange is not stored where they could change the answer;
//   - fields that Connection names are dropped, as any proxy must (RFC 9110 section 7.6.1);
//   - the rule may drop Cookie and parts of the query;
//   - Host is forwarded as the key has it: a server may answer EXAMPLE.com, or a redirect to https on port 80, otherwise than example.com.
//
// Fields that differ from hop to hop and client to client by design (X-Forwarded-For, Via) are added afterwards, in rewrite.

// fieldKind says why a request field may have to be dropped.
type fieldKind uint8

const (
	plainField     fieldKind = iota
	untrustedField           // describes a hop before us, or another target: dropped from what an untrusted peer sends
	strangeField             // means another hop, or nothing but harm to what is behind us: dropped whoever sends it
	overrideField            // asks to take the request for one of another method: on a GET an unkeyed input; with other methods rightly used
)

// doubtfulFields are the fields that only a trusted peer may send, beside all that begin with X-Forwarded-.
var doubtfulFields = map[string]fieldKind{
	"Forwarded": untrustedField, "X-Forwarded": untrustedField, "X-Host": untrustedField, "X-Original-Host": untrustedField,
	"X-Original-Url": untrustedField, "X-Rewrite-Url": untrustedField, "X-Url-Scheme": untrustedField, "X-Real-Ip": untrustedField,
	"X-Client-Ip": untrustedField, "Client-Ip": untrustedField, "True-Client-Ip": untrustedField,
	"X-Cluster-Client-Ip": untrustedField, "X-Originating-Ip": untrustedField, "Front-End-Https": untrustedField,
	"X-Remote-Ip": untrustedField, "X-Remote-Addr": untrustedField, "Cf-Connecting-Ip": untrustedField, "Fastly-Client-Ip": untrustedField,
	"Proxy":                  strangeField, // HTTP_PROXY, to what is written for CGI: where its own requests go (CVE-2016-5385)
	"Http2-Settings":         strangeField, // of an upgrade to HTTP/2, which is not passed on (RFC 9113 section 3.1)
	"X-Http-Method-Override": overrideField, "X-Http-Method": overrideField, "X-Method-Override": overrideField,
}

// framingFields are dropped where they are written with "_": with "-" they are this hop's own, which net/http writes.
var framingFields = map[string]bool{
	"Content-Length": true, "Transfer-Encoding": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authorization": true,
	"Proxy-Authenticate": true, "Http2-Settings": true,
}

// kindOf looks a canonical field name up. A name with "_" is judged as the one with "-", because to what is written for CGI both are
// the same variable. Most names are told by their first letter. All of X-Forwarded- describe hops before us, and servers read more of
// them than a list could name: a scheme in -Protocol, a client certificate in -Client-Cert, a user in -User.
func kindOf(name string) fieldKind {
	switch name[0] {
	case 'X', 'F', 'T', 'C', 'P', 'H', 'K':
	default:
		return plainField
	}
	if strings.IndexByte(name, '_') >= 0 {
		if name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")); framingFields[name] {
			return strangeField
		}
	}
	if strings.HasPrefix(name, "X-Forwarded-") {
		return untrustedField
	}
	return doubtfulFields[name]
}

// reroutingFields, written by a trusted peer, may change what is answered without showing in the key.
var reroutingFields = [...]string{"X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host", "X-Forwarded-Prefix", "X-Forwarded-Path", "X-Forwarded-Uri"}

// outbound settles the target, the fields and what of the exchange may be stored at all.
func (j *journey) outbound() {
	j.host = policy.ForwardHost(j.scheme, j.r.Host)
	j.target()
	j.query = j.matched.Key.ForwardQuery(j.r.URL.RawQuery)
	header := j.r.Header
	if j.needsCleaning(header) {
		header = header.Clone()
		j.clean(header)
		policy.RemoveHopByHop(header) // ReverseProxy does it to what it sends
		j.changed = true
	}
	j.rq = policy.NewRequest(j.r.Method, header)
	j.rq.Credentials = len(j.sessionFields) > 0 && len(j.matched.Key.Session) == 0
	j.refuseWhatCannotBeStored()
}

// target finds the bytes of the path as they will be forwarded. net/url writes some paths differently from how they came
// (`/a|b` as /a%7Cb); then the raw bytes go into URL.Opaque. Not when they begin with //, because an Opaque that does is
// sent in absolute form: such a path is forwarded as net/url writes it.
func (j *journey) target() {
	raw, _, _ := strings.Cut(j.r.RequestURI, "?")
	escaped := j.r.URL.EscapedPath()
	j.rawPath = escaped
	if raw == escaped || raw == "" {
		return
	}
	if strings.HasPrefix(raw, "/") && !strings.HasPrefix(raw, "//") && stillSays(raw, j.r.URL.Path) {
		j.rawPath, j.opaque = raw, true
	}
	if strings.Contains(raw, "#") {
		j.refuse(policy.AmbiguousPath)
	}
}

// stillSays reports whether the raw path is that of the URL: a handler before us may have changed the URL (http.StripPrefix), and what
// it wants is asked for then.
func stillSays(raw, path string) bool {
	decoded, err := url.PathUnescape(raw)
	return err == nil && decoded == path
}

func (j *journey) needsCleaning(h http.Header) bool {
	for name := range h {
		if name == "Connection" && namesFields(h[name]) || j.drops(name) {
			return true
		}
	}
	return false
}

// namesFields reports whether Connection may name fields of the request.
func namesFields(connection []string) bool {
	for _, v := range connection {
		if v != "keep-alive" && v != "close" {
			return true
		}
	}
	return false
}

// drops reports whether the field with this canonical name is not forwarded.
func (j *journey) drops(name string) bool {
	switch kindOf(name) {
	case untrustedField: // no proxy writes one with "_", so a trusted peer has it from its client
		return !j.trusted || strings.IndexByte(name, '_') >= 0
	case strangeField:
		return true
	case overrideField:
		return !j.trusted && policy.SafeMethod(j.r.Method)
	default:
		return name == "Cookie" && j.matched.StripCookies
	}
}

// clean drops from h what must not be forwarded, but for hop-by-hop fields.
func (j *journey) clean(h http.Header) {
	for name := range h {
		if j.drops(name) {
			delete(h, name)
		}
	}
}

// refuseWhatCannotBeStored names what about the request alone keeps the whole exchange out of the cache.
func (j *journey) refuseWhatCannotBeStored() {
	r := j.r
	switch {
	case r.Method == http.MethodConnect:
		j.refuse(policy.MethodNotStored)
	case asksForUpgrade(r):
		j.refuse(policy.Upgrade)
	case policy.SafeMethod(r.Method) && (r.ContentLength != 0 || len(r.TransferEncoding) > 0):
		j.refuse(policy.RequestBody)
	}
	if !policy.ValidHost(r.Host) {
		j.refuse(policy.AmbiguousHost)
	}
	if j.trusted && j.rerouted() {
		j.refuse(policy.AmbiguousPath)
	}
}

// rerouted reports whether a trusted peer asks for something that the key does not show.
func (j *journey) rerouted() bool {
	h := j.r.Header
	for _, name := range reroutingFields {
		if _, ok := h[name]; ok {
			return true
		}
	}
	for _, name := range [...]string{
		"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme", "X-Url-Scheme", "X-Forwarded-Ssl", "Front-End-Https", "X-Forwarded-Port",
	} {
		for _, v := range h[name] {
			if !strings.EqualFold(v, j.originAs(name)) {
				return true
			}
		}
	}
	if j.forwardedDiffers(h["Forwarded"]) {
		return true
	}
	for name := range h {
		if kindOf(name) == overrideField && policy.SafeMethod(j.r.Method) {
			return true
		}
	}
	return false
}

// originAs is what a field with which a trusted peer repeats the scheme, host or port of the origin says where it agrees with the key.
func (j *journey) originAs(field string) string {
	secure := j.scheme == "https"
	switch field {
	case "X-Forwarded-Host":
		return j.r.Host
	case "X-Forwarded-Ssl", "Front-End-Https":
		if secure {
			return "on"
		}
		return "off"
	case "X-Forwarded-Port":
		if _, port, err := net.SplitHostPort(j.r.Host); err == nil && port != "" {
			return port
		}
		if secure {
			return "443"
		}
		return "80"
	default:
		return j.scheme
	}
}

// forwardedDiffers reports whether an element of Forwarded names another origin than the key does, be it beside the same one.
func (j *journey) forwardedDiffers(lines []string) bool {
	for _, line := range lines {
		for pair := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' }) {
			name, value, _ := strings.Cut(pair, "=")
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch name = strings.TrimSpace(name); {
			case strings.EqualFold(name, "proto") && !strings.EqualFold(value, j.scheme),
				strings.EqualFold(name, "host") && !strings.EqualFold(value, j.r.Host):
				return true
			}
		}
	}
	return false
}

// asksForUpgrade reports whether the request asks for another protocol. Of HTTP/1.0 that has to be ignored (RFC 9110 section 7.8).
func asksForUpgrade(r *http.Request) bool { return r.ProtoAtLeast(1, 1) && isUpgrade(r.Header) }

// isUpgrade reports whether the request asks for another protocol and Connection lists the token upgrade (RFC 9110 section 7.8). To
// take HTTP/2 or TLS for that would hand the client a connection to upstream on which no rule holds: such a wish is not passed
// on, and the request is answered as if it had none.
func isUpgrade(h http.Header) bool {
	if len(h["Upgrade"]) == 0 {
		return false
	}
	for _, protocol := range h["Upgrade"] {
		if c := strings.ToLower(protocol); strings.Contains(c, "h2") || strings.Contains(c, "h3") || strings.Contains(c, "http") || strings.Contains(c, "tls") {
			return false
		}
	}
	for _, line := range h["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}

// isProtocol reports whether an Upgrade value can name protocols: visible ASCII and blanks (RFC 9110 section 7.8).
func isProtocol(upgrade string) bool {
	return !strings.ContainsFunc(upgrade, func(r rune) bool { return r < ' ' || r > '~' })
}

// key makes the cache key from what would be forwarded.
func (j *journey) key() {
	j.cacheKey = j.matched.Key.Key(j.scheme, j.host, j.keyPath(), j.query, j.rq.Header, j.sessionFields)
	if !invalidation.CanName(j.cacheKey.URL) {
		j.refuse(policy.UnnameableURL)
	}
}

// keyPath is the path as forwarded, with the "?" of an empty query: "/a?" is not the bytes of "/a".
func (j *journey) keyPath() string {
	if j.r.URL.ForceQuery {
		return j.rawPath + "?"
	}
	return j.rawPath
}

// viaNames are the Via values by protocol (RFC 9110 section 7.6.3), made once.
type viaNames struct{ http10, http11, http2 string }

func newViaNames(name string) viaNames {
	return viaNames{"1.0 " + name, "1.1 " + name, "2.0 " + name}
}

func (v *viaNames) of(major, minor int) string {
	switch {
	case major == 2:
		return v.http2
	case minor == 0:
		return v.http10
	default:
		return v.http11
	}
}

// addHopFields writes the fields that tell the upstream about this hop. What a trusted peer wrote is continued, what anybody
// else wrote is replaced.
func (j *journey) addHopFields(out http.Header) {
	var before http.Header
	if j.trusted {
		before = j.r.Header
	}
	peer := ""
	if j.peer.IsValid() {
		peer = j.peer.String()
	}
	values := [...]string{
		extend(before["X-Forwarded-For"], peer), first(before["X-Forwarded-Host"], j.host), first(before["X-Forwarded-Proto"], j.scheme),
		extend(before["Forwarded"], j.forwarded(peer)), extend(out["Via"], j.h.via.of(j.r.ProtoMajor, j.r.ProtoMinor)),
	}
	lines := values[:] // one allocation for all five
	for i, name := range [...]string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via"} {
		if lines[i] != "" {
			out[name] = lines[i : i+1 : i+1]
		}
	}
}

// extend appends value to the list that before holds, as one line.
func extend(before []string, value string) string {
	switch {
	case len(before) == 0:
		return value
	case value == "":
		return strings.Join(before, ", ")
	default:
		return strings.Join(before, ", ") + ", " + value
	}
}

// first is what before holds, or else value.
func first(before []string, value string) string {
	if len(before) > 0 {
		return strings.Join(before, ", ")
	}
	return value
}

// forwarded is this hop's element of Forwarded (RFC 7239 section 4). An IPv6 address stands in brackets and quotes (section 6).
func (j *journey) forwarded(peer string) string {
	node := peer
	switch {
	case peer == "":
		node = "unknown"
	case j.peer.Is6():
		node = `"[` + j.peer.WithZone("").String() + `]"`
	}
	host := j.host
	if host == "" || strings.ContainsAny(host, `"\`) {
		return "for=" + node + ";proto=" + j.scheme
	}
	return "for=" + node + `;host="` + host + `";proto=` + j.scheme
}
