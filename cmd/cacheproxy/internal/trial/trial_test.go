package trial

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMessagesAsText(t *testing.T) {
	for text, want := range map[string]Request{
		"http://a.example/":                  {URL: "http://a.example/"},
		"HEAD https://a.example/x":           {Method: "HEAD", URL: "https://a.example/x"},
		"GET /x HTTP/1.1\r\nHost: a.example": {Method: "GET", URL: "http://a.example/x", Header: map[string]Values{"Host": {"a.example"}}},
		"POST http://a.example/\nx-a: 1\nX-A:  2 \n\nx=1\n\ny": {
			Method: "POST", URL: "http://a.example/", Header: map[string]Values{"X-A": {"1", "2"}}, Body: "x=1\n\ny"},
	} {
		var got Request
		if err := got.UnmarshalText([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	for text, want := range map[string]Response{
		"204":                                     {Status: 204},
		"HTTP/2 301\nlocation: /x":                {Status: 301, Header: map[string]Values{"Location": {"/x"}}},
		"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhi\r\n":   {Status: 200, Header: map[string]Values{"A": {"b"}}, Body: "hi\n"},
		"HTTP/1.1 200 Fine as can be\n\n\nbody\n": {Status: 200, Body: "\nbody\n"},
	} {
		var got Response
		if err := got.UnmarshalText([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a b c d", "GET http://a.example/ HTTP/1.1\nno field"} {
		if err := new(Request).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("the request %q is read", text)
		}
	}
	for _, text := range []string{"", "HTTP/1.1", "100", "HTTP/1.1 OK", "200 OK\nno field"} {
		if err := new(Response).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("the response %q is read", text)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\nA: b\n\nbody")
	f.Add("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		var q Request
		if q.UnmarshalText([]byte(text)) == nil {
			_, _ = q.question(begin).Request(t.Context())
		}
		var s Response
		if s.UnmarshalText([]byte(text)) == nil && (s.Status < 200 || s.Status > 999) {
			t.Errorf("status %d", s.Status)
		}
	})
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	got := expandAll([]string{"{now}", "a {now-10h}, {now+1m}", "{now-x}", "{nowhere}"}, now)
	want := []string{
		"Wed, 25 Nov 2026 12:00:00 GMT", "a Wed, 25 Nov 2026 02:00:00 GMT, Wed, 25 Nov 2026 12:01:00 GMT", "{now-x}", "{nowhere}",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if checkMoments(map[string]Values{"A": {"{now-x}"}}) == nil || checkMoments(map[string]Values{"A": {"{nowhere} {now+1s}"}}) != nil {
		t.Error("what is a moment?")
	}
}

// stage is a Stage without rules.
func stage(t *testing.T) *Stage {
	t.Helper()
	s, err := NewStage(Options{Start: begin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *Stage) mustPlay(t *testing.T, q Request, response *Response) Played {
	t.Helper()
	p, err := s.Play(q, response)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStage(t *testing.T) {
	s, q := stage(t), Request{URL: "http://a.example/"}
	if p := s.mustPlay(t, q, nil); !p.Unmet || p.Status != http.StatusServiceUnavailable {
		t.Errorf("nothing answers: %+v", p)
	}
	p := s.mustPlay(t, q, &Response{Header: map[string]Values{"cache-control": {"max-age=60"}}, Size: 3 << 20})
	if p.Status != 200 || len(p.Body) != maxKept || p.Header.Get("Content-Length") != "3145728" || p.Header.Get("Date") != "Thu, 01 Jan 2026 00:00:00 GMT" ||
		!p.Outcome.Stored || p.Unmet || p.Unused {
		t.Errorf("first: %d %v %+v", p.Status, p.Header, p.Outcome)
	}
	s.Advance(7 * time.Second)
	if p := s.mustPlay(t, q, &Response{}); !p.Unused || !p.Outcome.Hit || p.Header.Get("Age") != "7" {
		t.Errorf("second: %v %+v", p.Header, p.Outcome)
	}
	if p := s.mustPlay(t, Request{Method: "POST", URL: q.URL, Body: "x"}, &Response{Status: 204}); p.Status != 204 || p.Asked[0].ContentLength != 1 {
		t.Errorf("POST: %+v", p)
	}
	if p := s.mustPlay(t, q, nil); !p.Unmet {
		t.Error("a POST has forgotten nothing")
	}
	if p := s.mustPlay(t, q, &Response{Error: 1}); p.Status != http.StatusGatewayTimeout || p.Outcome.Detail != policy.UpstreamFailed {
		t.Errorf("an origin that fails: %+v", p)
	}
	if _, err := s.Play(Request{URL: "/"}, nil); err == nil {
		t.Error("a request to nowhere is played")
	}
	recorded := &Response{Header: map[string]Values{"Content-Length": {"5"}, "Cache-Control": {"max-age=60"}}}
	if p := s.mustPlay(t, Request{URL: "http://a.example/recorded"}, recorded); p.Body != "\x00\x00\x00\x00\x00" || !p.Outcome.Stored {
		t.Errorf("recorded without its content: %+v", p)
	}
}

// How long a key is remembered as not shareable is told by the stage's clock.
func TestStageForgetsWhatIsNotShareable(t *testing.T) {
	s, q := stage(t), Request{URL: "http://a.example/"}
	personal, public := &Response{Header: map[string]Values{"Cache-Control": {"private"}}}, &Response{Header: map[string]Values{"Cache-Control": {"max-age=1"}}}
	s.mustPlay(t, q, personal)
	if p := s.mustPlay(t, q, public); p.Outcome.Detail != policy.NotShareable {
		t.Errorf("at once: %+v", p.Outcome)
	}
	s.Advance(time.Minute)
	if p := s.mustPlay(t, q, public); p.Outcome.Detail != policy.None {
		t.Errorf("a minute later: %+v", p.Outcome)
	}
}

func TestReadRecorded(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	read := func(text string) (*Recorded, error) {
		name := filepath.Join(t.TempDir(), "exchange.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadRecorded(name, now)
	}
	const exchange = "request: GET http://a.example/\nresponse: {header: {Date: \"Tue, 24 Nov 2026 12:00:00 GMT\"}}\n"
	for text, want := range map[string]time.Time{
		exchange: now.Add(-24 * time.Hour),
		"time: 2026-01-01T00:00:00Z\n" + exchange:                   begin,
		"time: Thu, 01 Jan 2026 00:00:00 GMT\n" + exchange:          begin,
		"request: GET http://a.example/\nresponse: HTTP/1.1 200 OK": now,
	} {
		if e, err := read(text); err != nil || !e.Time.Equal(want) {
			t.Errorf("%s: %+v %v", text, e, err)
		}
	}
	for text, want := range map[string]string{
		"":                            ":1: request: is missing",
		"time: noon\n" + exchange:     `:1: time: "noon" is no time: write 2026-01-01T00:00:00Z or an HTTP-date`,
		exchange + "cases: []":        ":3: cases: unknown key (known here: config, time, request, response)",
		"request: [a]\nresponse: 200": ":1: request: is text, or a map of keys: method, url, header, body, client",
		"request: GET http://a.example/\nresponse: {status: 100, error: dns_error, body: x}": ":2: response.status: 100 is no final status",
	} {
		_, err := read(text)
		var mistakes config.Mistakes
		if !errors.As(err, &mistakes) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestDifferences(t *testing.T) {
	var e Expect
	if got := e.compare(&Played{Aborted: true, Unused: true}, begin); len(got) != 2 {
		t.Errorf("%v", got)
	}
	forwarded := Expect{Forwarded: &Forwarded{Method: "GET", Target: "/x"}}
	if got := forwarded.compare(&Played{}, begin); len(got) != 1 || got[0].String() != "forwarded: expected a request at the origin, got nothing" {
		t.Errorf("%v", got)
	}
	asked, err := http.NewRequestWithContext(t.Context(), "POST", "http://a.example/y", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := forwarded.compare(&Played{Asked: []*http.Request{asked}, Unmet: true}, begin); len(got) != 3 {
		t.Errorf("%v", got)
	}
	age, body := Seconds(30), "b"
	got := (&Expect{Age: &age, TTL: &age, Body: &body}).compare(&Played{Body: strings.Repeat("x", 99)}, begin)
	if len(got) != 3 || got[2].Got != `"`+strings.Repeat("x", 60)+`" and 39 bytes more` || got[0].Got != nothing || got[1].Got != nothing {
		t.Errorf("%v", got)
	}
}
