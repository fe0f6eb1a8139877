package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

func TestHealth(t *testing.T) {
	const ok, no, slow = CauseNone, ConnectionRefused, HTTPResponseTimeout
	for name, test := range map[string]struct {
		ends []Cause
		want []string
	}{
		"three in a row":              {[]Cause{ok, no, no, no}, []string{"down connection_refused"}},
		"two":                         {[]Cause{no, no, ok, no, no, ok}, nil},
		"told once":                   {[]Cause{no, no, no, no, no, no, no}, []string{"down connection_refused"}},
		"up again":                    {[]Cause{no, no, no, no, ok, ok}, []string{"down connection_refused", "up"}},
		"down again":                  {[]Cause{no, no, no, ok, no, no, TLSCertificateError}, []string{"down connection_refused", "up", "down tls_certificate_error"}},
		"slow ones count neither way": {[]Cause{no, slow, no, slow, HTTPRequestError, ProxyInternalError, no}, []string{"down connection_refused"}},
		"slow ones alone":             {[]Cause{slow, slow, slow, slow}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			h := &Health{Changed: func(up bool, c Cause) { got = append(got, changed(up, c)) }}
			for _, c := range test.ends {
				if c == ok {
					h.answered()
				} else {
					h.failed(c)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	var none *Health
	none.answered()
	none.failed(no)
}

func changed(up bool, c Cause) string {
	if up {
		return "up"
	}
	return "down " + c.String()
}

// Real exchanges tell it, and what a client does does not.
func TestHealthOfAServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var mu sync.Mutex
	var got []string
	health := &Health{Changed: func(up bool, c Cause) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, changed(up, c))
	}}
	u, err := New(Options{URL: "http://" + address, Health: health})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	ask := func(ctx context.Context) {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://a.example/", nil)
		if res, err := u.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 {
		ask(gone)
	}
	for range 5 {
		ask(t.Context())
	}
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	server.Listener.Close()
	server.Listener = again
	server.Start()
	defer server.Close()
	ask(t.Context())
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"down connection_refused", "up"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Many requests at once tell each change once, and in order.
func TestHealthUnderManyRequests(t *testing.T) {
	var got []bool
	h := &Health{Changed: func(up bool, _ Cause) { got = append(got, up) }} // the calls come one after the other
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for range 1000 {
				if i%4 == 0 {
					h.answered()
				} else {
					h.failed(ConnectionRefused)
				}
			}
		})
	}
	work.Wait()
	for i, up := range got {
		if up != (i%2 == 1) {
			t.Fatalf("change %d: %v", i, fmt.Sprint(got[:i+1]))
		}
	}
}

// It costs a response next to nothing.
func BenchmarkHealthAnswered(b *testing.B) {
	h := &Health{Changed: func(bool, Cause) {}}
	b.ReportAllocs()
	for b.Loop() {
		h.answered()
	}
}
