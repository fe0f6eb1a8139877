package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"cacheproxy/upstream"
)

func trustLoopback(o *Options) {
	o.Client.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// Each row is an attack on whoever asks the plain way afterwards: the attacker's request comes first, the victim's second, and
// the victim must get what the origin says to the victim's own request, while the origin believes whatever the attacker sent.
func TestPoisoningByUnkeyedInput(t *testing.T) {
	gullible := func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		h := req.Header
		for _, name := range []string{
			"X-Host", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Forwarded-Prefix",
			"Proxy", "Cf-Connecting-Ip", "Content_length", "X-Forwarded-Scheme", "X-Forwarded-Port", "X_forwarded_host", "X-Forwarded-Server", "X-Forwarded-Protocol", "X-Forwarded-User", "True-Client-Ip", "X-Real-Ip",
		} {
			if v := h.Get(name); v != "" {
				_, _ = fmt.Fprintf(w, "%s=%s ", name, v)
			}
		}
		body := make([]byte, 64)
		n, _ := req.Body.Read(body)
		_, _ = fmt.Fprintf(w, "host=%s fwd=%s proto=%s path=%s query=%s content=%s",
			req.Host, h.Get("X-Forwarded-Host"), h.Get("X-Forwarded-Proto"), req.URL.EscapedPath(), req.URL.RawQuery, body[:n])
	}
	for _, c := range []struct {
		name, target string
		fields       []string
		content      string
	}{
		{name: "X-Forwarded-Host", target: "/p", fields: []string{"X-Forwarded-Host: evil.example"}},
		{name: "X-Forwarded-Proto", target: "/p", fields: []string{"X-Forwarded-Proto: https"}},
		{name: "X-Forwarded-Scheme", target: "/p", fields: []string{"X-Forwarded-Scheme: nothttps"}},
		{name: "X-Forwarded-Port", target: "/p", fields: []string{"X-Forwarded-Port: 1"}},
		{name: "X-Forwarded-Prefix", target: "/p", fields: []string{"X-Forwarded-Prefix: //evil"}},
		{name: "X-Forwarded-Protocol", target: "/p", fields: []string{"X-Forwarded-Protocol: ssl"}},
		{name: "X-Forwarded-User", target: "/p", fields: []string{"X-Forwarded-User: root"}},
		{name: "X_Forwarded_Host, which CGI takes for the other", target: "/p", fields: []string{"X_Forwarded_Host: evil.example"}},
		{name: "X-Host", target: "/p", fields: []string{"X-Host: evil"}},
		{name: "X-Original-URL", target: "/p", fields: []string{"X-Original-URL: /admin"}},
		{name: "X-Rewrite-URL", target: "/p", fields: []string{"X-Rewrite-URL: /admin"}},
		{name: "method override", target: "/p", fields: []string{"X-HTTP-Method-Override: POST"}},
		{name: "method override, short", target: "/p", fields: []string{"X-Method-Override: HEAD"}},
		{name: "client address", target: "/p", fields: []string{"X-Real-Ip: 6.6.6.6", "True-Client-IP: 6.6.6.6"}},
		{name: "client address, by a CDN", target: "/p", fields: []string{"CF-Connecting-IP: 6.6.6.6"}},
		{name: "Proxy, which CGI takes for HTTP_PROXY", target: "/p", fields: []string{"Proxy: http://evil"}},
		{name: "Content_Length", target: "/p", fields: []string{"Content_Length: 5"}},
		{name: "fat GET", target: "/p", content: "q=evil"},
		{name: "another port", target: "/p", fields: []string{"Host: example.com:1337"}},
		{name: "the same port", target: "/p", fields: []string{"Host: example.com:80"}},
		{name: "an empty port", target: "/p", fields: []string{"Host: example.com:"}},
		{name: "the same host in capitals", target: "/p", fields: []string{"Host: EXAMPLE.com"}},
		{name: "another host", target: "/p", fields: []string{"Host: evil.example"}},
		{name: "encoded slash", target: "/x%2fp"},
		{name: "dot segment", target: "/x/../p"},
		{name: "encoded dot segment", target: "/x/%2e%2e/p"},
		{name: "double slash", target: "//p"},
		{name: "path parameter", target: "/p;evil"},
		{name: "backslash", target: `/x\..\p`},
		{name: "encoded backslash", target: "/x%5cp"},
		{name: "NUL", target: "/p%00"},
		{name: "case", target: "/P"},
		{name: "encoded letter", target: "/%70"},
		{name: "query without value", target: "/p?"},
		{name: "cloaked parameter", target: "/p?utm=1;q=evil"},
		{name: "doubled parameter", target: "/p?q=1&q=2"},
		{name: "another slash at the end", target: "/p/"},
		{name: "deceiving extension", target: "/p/x.css"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, gullible)
			victim := "host=example.com fwd=example.com proto=http path=/p query= content="
			request := "GET " + c.target + " HTTP/1.1\r\nConnection: close\r\n"
			if !strings.HasPrefix(strings.Join(c.fields, ""), "Host") {
				request += "Host: example.com\r\n"
			}
			for _, f := range c.fields {
				request += f + "\r\n"
			}
			if c.content != "" {
				request += fmt.Sprintf("Content-Length: %d\r\n", len(c.content))
			}
			r.raw(request + "\r\n" + c.content)
			r.get("/p", "Host: example.com").is(t, 200, victim)
		})
	}
}

func TestConnectionNamedFieldIsNoSelectedField(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "X-Lang")
		_, _ = fmt.Fprintf(w, "lang=%s", req.Header.Get("X-Lang"))
	})
	r.raw("GET / HTTP/1.1\r\nHost: " + r.proxy.Listener.Addr().String() + "\r\nX-Lang: de\r\nConnection: close, X-Lang\r\n\r\n")
	r.get("/", "X-Lang: de").is(t, 200, "lang=de")
	r.get("/").is(t, 200, "lang=")
}

func TestAbsoluteFormIsKeyedByItsHost(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprint(w, req.Host)
	})
	r.raw("GET http://evil.example/ HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
	r.get("/", "Host: good.example").is(t, 200, "good.example")
}

func TestErrorsProvokedByARequestAreNotStored(t *testing.T) {
	for _, status := range []int{400, 401, 403, 406, 413, 416, 429, 431, 500, 502, 503} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			if req.Header.Get("X-Bad") != "" {
				w.WriteHeader(status)
				return
			}
			_, _ = fmt.Fprint(w, "good")
		})
		r.get("/", "X-Bad: 1")
		r.get("/").is(t, 200, "good")
	}
}

func TestCredentialsAndCookiesAreSharedWithNobody(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
		if req.URL.Path == "/auth" {
			w.Header().Set("Cache-Control", "max-age=60")
		}
		_, _ = fmt.Fprintf(w, "for %s%s", req.Header.Get("Authorization"), req.Header.Get("Cookie"))
	})
	r.get("/auth", "Authorization: Bearer a").is(t, 200, "for Bearer a")
	r.get("/auth", "Authorization: Bearer b").is(t, 200, "for Bearer b")
	r.get("/cookie", "Cookie: id=a").is(t, 200, "for id=a")
	r.get("/cookie", "Cookie: id=b").is(t, 200, "for id=b")
}

func TestFatGetOnAHitIsNotAnsweredFromTheStore(t *testing.T) {
	r := newRig(t, cacheable)
	r.get("/")
	out := r.raw("GET / HTTP/1.1\r\nHost: " + r.proxy.Listener.Addr().String() +
		"\r\nContent-Length: 40\r\nConnection: close\r\n\r\nGET /evil HTTP/1.1\r\nHost: example.com\r\n\r\n ")
	if !strings.Contains(out, "fwd=bypass; detail=request-body") || strings.Count(out, "HTTP/1.1 ") != 1 {
		t.Errorf("%q", out)
	}
}

// A tunnel is refused before anything is connected.
func TestTunnelsAreRefused(t *testing.T) {
	// Not newRig's toServer: the question is what the real round tripper's refusal becomes.
	u, err := upstream.New(upstream.Options{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil, func(o *Options) { o.Next = u })
	if got := r.raw("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 501 ") {
		t.Errorf("%s", got)
	}
}
