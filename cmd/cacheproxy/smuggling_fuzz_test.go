package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/witness"
)

// FuzzStack sends raw bytes through the whole stack, with a request right behind them. The witness's grammar, which shares nothing with
// ours, says which requests they are; no more than these, each in this reading, may reach the upstream or be answered, and each answer is that of
// its own request. Where the grammar stops, the stack must have stopped too.
func FuzzStack(f *testing.F) {
	for i, s := range readShapes(f) {
		if i%3 == 0 && len(s.answers) == 0 && len(s.sends) < 2<<10 { // all of them are sent by TestShapes
			f.Add(s.sends)
		}
	}
	k := newStack(f, nil, false)
	f.Cleanup(func() { k.close(f) })
	var rounds atomic.Int64
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8<<10 {
			return
		}
		round := rounds.Add(1)
		k.upstream.Forget()
		v := &judgement{t: t, sent: append(bytes.Clone(data), pageRequest("next")...)}
		v.all, _, v.doubt = witness.ParseAll(v.sent, witness.FromClient)
		p := k.dial(t)
		defer p.Close()
		_ = p.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = p.Write(v.sent)
		v.follow(p)
		v.compare(k.upstream)
		other := k.dial(t)
		defer other.Close()
		other.page(t, fmt.Sprint("other", round))
		if round%100 == 0 {
			keptRight(t, k)
		}
	})
}

// judgement is what came of one input.
type judgement struct {
	t         *testing.T
	sent      []byte
	all       []*witness.Message // as the grammar reads it
	doubt     error              // why not further
	forwarded []*witness.Message // those that were answered by the upstream for this request
	ended     bool               // the connection did
}

// follow reads the responses to the requests that the grammar has found.
func (v *judgement) follow(p *peer) {
	for _, m := range v.all {
		r, err := finalResponse(p, m.Method)
		if err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				v.t.Errorf("%q: no answer to %s", v.sent, m)
			}
			v.ended = true
			return
		}
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil:
			v.t.Errorf("%q: the answer to %s was cut: %v", v.sent, m, err)
		case r.StatusCode != http.StatusOK: // our own: the upstream says nothing else
			if r.Close {
				v.ended = true
				return
			}
			continue
		case m.Method != http.MethodHead && !sameRequest(string(body), m):
			v.t.Errorf("%q: the answer to %s is %q", v.sent, m, body)
		}
		if !strings.Contains(r.Header.Get("Cache-Status"), "; hit") {
			v.forwarded = append(v.forwarded, m)
		}
		if r.Close {
			v.ended = true
			return
		}
	}
	if v.doubt != nil && v.doubt.Error() != "unfinished" {
		r, err := finalResponse(p, http.MethodGet)
		if err == nil && r.StatusCode < 400 {
			v.t.Errorf("%q: in doubt as of %v, and answered %d", v.sent, v.doubt, r.StatusCode)
		}
	}
}

// finalResponse passes over interim ones.
func finalResponse(p *peer, method string) (*http.Response, error) {
	for {
		if _, err := p.r.Peek(1); err != nil {
			return nil, err
		}
		r, err := http.ReadResponse(p.r, &http.Request{Method: method})
		if err != nil || r.StatusCode >= 200 {
			return r, err
		}
	}
}

// compare holds what reached the upstream to what was answered.
func (v *judgement) compare(upstream *witness.Server) {
	if doubts := upstream.Doubts(); len(doubts) > 0 {
		v.t.Errorf("%q: in doubt at the upstream: %s", v.sent, doubts)
	}
	received := upstream.Messages()
	for i, m := range received {
		switch {
		case i < len(v.forwarded) && sameRequest(m.String(), v.forwarded[i]):
		case i == len(v.forwarded) && v.ended: // whose answer the client did not wait for
		default:
			v.t.Errorf("%q: the upstream received %s, number %d; it should have been one of %s", v.sent, m, i+1, v.forwarded)
		}
	}
	if len(received) < len(v.forwarded) {
		v.t.Errorf("%q: %s were answered, and the upstream received %s", v.sent, v.forwarded, received)
	}
}

// sameRequest reports whether text is what the witness says of the request m when a proxy has forwarded it: in origin-form, the host in lower
// case and without a port that says nothing, the path perhaps as net/url writes it.
func sameRequest(text string, m *witness.Message) bool {
	want := *m
	want.Target = m.Path()
	host := strings.ToLower(m.Host())
	host = strings.TrimSuffix(strings.TrimSuffix(host, ":80"), ":")
	want.Fields = []witness.Field{{Name: "Host", Value: host}}
	if host == "" { // HTTP/1.0: the upstream's own
		begin := want.Method + " " + want.Target + " "
		return strings.HasPrefix(text, begin)
	}
	if text == want.String() {
		return true
	}
	path, query, found := strings.Cut(want.Target, "?")
	if u, err := url.ParseRequestURI(path); err == nil {
		want.Target = u.EscapedPath()
	}
	if found {
		want.Target += "?" + query
	}
	return text == want.String()
}

// keptRight: under each key is what belongs there.
func keptRight(t *testing.T, k *stack) {
	for e := range k.store.Near() {
		_, rest, _ := strings.Cut(e.URL(), "://")
		i := strings.IndexByte(rest, '/')
		if echo := "GET " + rest[i:] + " " + rest[:i]; string(e.Body()) != echo && len(echo) < 500 {
			t.Errorf("under %q is stored %q", e.URL(), e.Body())
		}
	}
}
