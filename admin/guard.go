package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
)

// refuse returns why r may not be served, nil if it may. The rules, in order.
func (a *admin) refuse(r *http.Request) *problemDetails {
	switch {
	case a.reach == fromLoopback && !loopbackHost(r.Host):
		// 403 rather than 421 (Misdirected Request): a browser would answer 421 by asking again over another connection.
		return problem(http.StatusForbidden,
			"on a loopback address the Host must be localhost or a loopback address, so that no web page reaches it by a name of its own")
	case a.reach != fromAnywhere && a.token == nil, slices.Contains(open, r.URL.Path):
		return nil
	case a.token == nil:
		return problem(http.StatusForbidden,
			"admin.listen is not a loopback address and there is no token: set admin.token_file")
	case !a.authorised(r):
		p := problem(http.StatusUnauthorized, "want Authorization: Bearer and the token of admin.token_file")
		p.challenge = true
		return p
	default:
		return nil
	}
}

// loopbackHost looks at a Host field, with or without a port. An empty one is no browser's.
func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "" || isLoopbackName(host)
}

// authorised compares digests, so that the time taken tells neither the token's bytes nor its length.
func (a *admin) authorised(r *http.Request) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], a.token) == 1
}

// problemDetails is an error body of RFC 9457. Without a type it is "about:blank": the status says what kind it is.
type problemDetails struct {
	Title   string    `json:"title"`
	Status  int       `json:"status"`
	Detail  string    `json:"detail,omitempty"`
	Reasons []Problem `json:"reasons,omitempty"` // of /readyz

	challenge bool // a 401, which must carry WWW-Authenticate (RFC 9110 section 15.5.2)
}

func problem(status int, detail string) *problemDetails {
	return &problemDetails{Title: http.StatusText(status), Status: status, Detail: detail}
}

func (p *problemDetails) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil { // our own types: none fails
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if p.challenge {
		w.Header().Set("WWW-Authenticate", `Bearer realm="cacheproxy admin"`)
	}
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n')) // a client that left is nobody to tell
}
