package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// What a trusted peer says of the origin is what the upstream is told, so where the key says something else nothing is stored.
func TestWhatATrustedPeerSaysOfTheOrigin(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		key    string // begins so; "" = not stored
	}{
		{"nothing", nil, "http://shop.example/"},
		{"https", []string{"X-Forwarded-Proto: https"}, "https://shop.example/"},
		{"https in capitals", []string{"X-Forwarded-Proto: HTTPS"}, "https://shop.example/"},
		{"all that an ingress writes", []string{
			"X-Forwarded-Proto: https", "X-Forwarded-Scheme: https", "X-Forwarded-Port: 443", "X-Forwarded-Ssl: on", "X-Forwarded-Host: shop.example",
		}, "https://shop.example/"},
		{"and without TLS", []string{"X-Forwarded-Proto: http", "X-Forwarded-Port: 80", "X-Forwarded-Ssl: off"}, "http://shop.example/"},
		{"the port of Host", []string{"Host: shop.example:8443", "X-Forwarded-Proto: https", "X-Forwarded-Port: 8443"}, "https://shop.example:8443/"},
		{"a WebSocket scheme", []string{"X-Forwarded-Proto: wss"}, ""},
		{"a list", []string{"X-Forwarded-Proto: https, http"}, ""},
		{"two lines", []string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: http"}, ""},
		{"another scheme", []string{"X-Forwarded-Scheme: https"}, ""},
		{"another scheme by its other name", []string{"X-Forwarded-Protocol: ssl"}, ""},
		{"another port", []string{"X-Forwarded-Port: 1337"}, ""},
		{"TLS without https", []string{"X-Forwarded-Ssl: on"}, ""},
		{"the same of Microsoft", []string{"Front-End-Https: on"}, ""},
		{"another host", []string{"X-Forwarded-Host: evil.example"}, ""},
		{"another host on a second line", []string{"X-Forwarded-Host: shop.example", "X-Forwarded-Host: evil.example"}, ""},
		{"another host, said twice in Forwarded", []string{"Forwarded: for=1.2.3.4;host=shop.example;host=evil.example"}, ""},
		{"another host in Forwarded, with a blank", []string{"Forwarded: for=1.2.3.4;host =evil.example"}, ""},
		{"another scheme in Forwarded", []string{"Forwarded: for=1.2.3.4;proto=https"}, ""},
		{"another host in Forwarded", []string{`Forwarded: for=1.2.3.4;host="evil.example", for=2.3.4.5`}, ""},
		{"the same in Forwarded", []string{"Forwarded: for=1.2.3.4;proto=http;host=shop.example"}, "http://shop.example/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, cacheable, trustLoopback)
			fields := append([]string{"Host: shop.example"}, c.fields...)
			r.get("/", fields...)
			got := r.get("/", fields...)
			if hit := strings.Contains(got.Header.Get("Cache-Status"), "; hit"); hit != (c.key != "") {
				t.Errorf("Cache-Status: %s", got.Header.Get("Cache-Status"))
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if !strings.HasPrefix(r.logs[0].Key, c.key) {
				t.Errorf("key %s", r.logs[0].Key)
			}
		})
	}
}

func TestSchemeOfForwarded(t *testing.T) {
	r := newRig(t, cacheable, trustLoopback, func(o *Options) { o.Client.Header = "Forwarded" })
	fields := []string{"Host: shop.example", "Forwarded: for=1.2.3.4;proto=https"}
	r.get("/", fields...)
	r.get("/", fields...).is(t, 200, "0123456789")
	r.wantHits(1)
	if got := r.lastSeen().Header.Get("X-Forwarded-Proto"); got != "https" {
		t.Errorf("X-Forwarded-Proto: %s", got)
	}
}

// To what is written for CGI it is the same field, and it can only be the client's.
func TestUnderscoresAreNoTrustedPeersFields(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprint(w, req.Header.Get("X_forwarded_host"))
	}, trustLoopback)
	r.get("/", "X_Forwarded_Host: evil.example").is(t, 200, "")
}

// The rest of a body too large to keep is fetched for a slow reader in its own name.
func TestTheRestIsAskedForWithTheReadersOwnFields(t *testing.T) {
	onStage(t, func(s *stage) {
		fast := s.ask("/", "Authorization: Bearer leader")
		synctest.Wait()
		slow := s.asking(&asker{block: make(chan struct{})}, "/", "Authorization: Bearer follower")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: public, max-age=60", `ETag: "v1"`)
		want := strings.Repeat("0123456789abcdef", 1<<14)
		begin(body, want)
		go func() { _, _ = body.Write([]byte(want[1:])); _ = body.Close() }()
		<-fast.done
		close(slow.block)
		again := <-s.calls
		if got := again.Header.Get("Authorization"); got != "Bearer follower" {
			t.Errorf("Authorization: %s", got)
		}
		again.whole(200, want, `ETag: "v2"`)
		<-slow.done
	}, small)
}
