package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cacheproxy/metrics"
	"cacheproxy/policy"
)

// A switch of protocols that nobody asked for is an error, and its connection is closed.
func TestUnaskedSwitchOfProtocols(t *testing.T) {
	for _, field := range []string{"X-Plain: 1", "Upgrade: websocket"} {
		closed := make(chan bool, 1)
		r := newRig(t, nil, func(o *Options) {
			o.Metrics = metrics.New()
			o.Next = roundTripper(func(*http.Request) (*http.Response, error) {
				pr, pw := io.Pipe()
				return &http.Response{
					StatusCode: 101, Header: http.Header{"Upgrade": {"something"}, "Connection": {"Upgrade"}},
					Body: switched{pr, pw, closed},
				}, nil
			})
		})
		fields := []string{field}
		if field != "X-Plain: 1" {
			fields = append(fields, "Connection: Upgrade")
		}
		a := r.get("/", fields...)
		if got := a.Header.Get("Proxy-Status"); a.StatusCode != 502 || got != "cacheproxy; error=http_protocol_error" {
			t.Errorf("%d, Proxy-Status %q", a.StatusCode, got)
		}
		scrape := httptest.NewRecorder()
		r.h.opt.Metrics.Handler().ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
		if !strings.Contains(scrape.Body.String(), `cacheproxy_upstream_errors_total{cause="http_protocol_error"} 1`) {
			t.Errorf("it is not counted:\n%s", scrape.Body)
		}
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Error("the connection to upstream is left open")
		}
	}
}

type switched struct {
	*io.PipeReader
	w      *io.PipeWriter
	closed chan bool
}

func (s switched) Write(p []byte) (int, error) { return s.w.Write(p) }
func (s switched) Close() error {
	select {
	case s.closed <- true:
	default:
	}
	_ = s.w.Close()
	return s.PipeReader.Close()
}

// HTTP2-Settings and "Upgrade: h2c", which curl --http2 sends, are neither passed on nor a reason not to answer from the store.
func TestUpgradeToAnotherHTTPIsNotPassedOn(t *testing.T) {
	r := newRig(t, cacheable)
	request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
	r.raw(request)
	if h := r.lastSeen().Header; h["Upgrade"] != nil || h["Http2-Settings"] != nil || h["Connection"] != nil {
		t.Errorf("%v", h)
	}
	if out := r.raw(request); !strings.Contains(out, "cacheproxy; hit") {
		t.Errorf("%q", out)
	}
}

func TestCloseEndsUpgradedConnectionsOfBypassedPaths(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = buffered.ReadByte()
	}, withRules(t, policy.RuleSpec{Bypass: true}))
	c, err := net.Dial("tcp", r.proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header["Cache-Status"] != nil {
		t.Fatalf("%v %v", res, err)
	}
	r.h.cancel()
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("the connection has not been ended: %v", err)
	}
}

func TestUpgradeThatNamesNoProtocol(t *testing.T) {
	r := newRig(t, cacheable)
	out := r.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: \xff\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.1 400 ") || !strings.Contains(out, "Upgrade field") {
		t.Errorf("%q", out)
	}
	r.wantHits(0)
}

// RFC 9110 section 7.8: the Upgrade of a request of HTTP/1.0 is ignored.
func TestUpgradeOfHTTP10IsIgnored(t *testing.T) {
	r := newRig(t, cacheable)
	got := r.raw("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.0 200 OK\r\n") || !strings.Contains(got, "; stored") {
		t.Errorf("%q", got)
	}
	if h := r.lastSeen().Header; h["Upgrade"] != nil {
		t.Errorf("%v", h)
	}
}
