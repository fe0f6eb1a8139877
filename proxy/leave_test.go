package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coder/websocket"
)

// An event stream ends cleanly behind the event under way when the process leaves: at once between two events, later in the middle of one.
func TestLeavingEndsEventStreamsBetweenEvents(t *testing.T) {
	for _, tt := range []struct{ name, before, after, want string }{
		{"between", "data: 1\n\n", "", "data: 1\n\n"},
		{"before the first", "", "", ""},
		{"in the middle", "data: 1\n\ndata: ", "2\r\n\r\ndata: 3\n\n", "data: 1\n\ndata: 2\r\n\r"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			left, ended := make(chan struct{}), make(chan struct{})
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				defer close(ended)
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				_, _ = io.WriteString(w, tt.before)
				_ = http.NewResponseController(w).Flush()
				<-left
				_, _ = io.WriteString(w, tt.after)
				_ = http.NewResponseController(w).Flush()
				<-req.Context().Done()
			})
			res := r.open("/events")
			defer res.Body.Close()
			first := make([]byte, len(tt.before))
			if _, err := io.ReadFull(res.Body, first); err != nil {
				t.Fatal(err)
			}
			r.h.Leave()
			close(left)
			rest, err := io.ReadAll(res.Body)
			if got := string(first) + string(rest); got != tt.want || err != nil {
				t.Errorf("%q, %v; want %q and a clean end", got, err, tt.want)
			}
			<-ended // the upstream is let go
		})
	}
}

func TestEventStreamsEndOnlyWhenLeaving(t *testing.T) {
	text := "data: 1\n\nid: 2\r\n\r\n\rdata"
	s := newEventStream(io.NopCloser(iotest.OneByteReader(strings.NewReader(text))), t.Context())
	if got, err := io.ReadAll(s); string(got) != text || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = s.Close()
}

// A WebSocket's client is told with 1001, answers, and both sides end as they always do.
func TestLeavingClosesWebSockets(t *testing.T) {
	status := make(chan websocket.StatusCode, 1)
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		c, err := websocket.Accept(w, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		if err := c.Write(req.Context(), websocket.MessageBinary, make([]byte, 70_000)); err != nil {
			t.Error(err)
		}
		_, _, err = c.Read(req.Context())
		status <- websocket.CloseStatus(err)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.proxy.URL, "http")+"/ws", &websocket.DialOptions{HTTPClient: r.client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	if _, data, err := c.Read(ctx); len(data) != 70_000 || err != nil {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	r.h.Leave()
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the client is told %v", err)
	}
	if got := <-status; got != websocket.StatusGoingAway {
		t.Errorf("the upstream is told %v", got)
	}
}

// frame is one frame of a server, with a payload of n bytes.
func frame(opcode byte, n int) []byte {
	head := []byte{0x80 | opcode, byte(n)}
	switch {
	case n > 0xffff:
		head = []byte{0x80 | opcode, 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	case n > 125:
		head = []byte{0x80 | opcode, 126, byte(n >> 8), byte(n)}
	}
	return append(head, bytes.Repeat([]byte{0x88}, n)...)
}

// Wherever a Write ends and wherever leaving comes, the Close frame stands between two frames, once, and nothing behind it.
func TestCloseFramesStandBetweenFrames(t *testing.T) {
	for _, sizes := range [][]int{{0}, {1, 125}, {126, 3}, {70_000, 1}} {
		var all []byte
		ends := map[int]bool{0: true}
		for _, n := range sizes {
			all = append(all, frame(2, n)...)
			ends[len(all)] = true
		}
		for leaveAt := range min(len(all)+1, 200) {
			for _, piece := range []int{1, 5, len(all)} {
				t.Run(fmt.Sprintf("%v/%d/%d", sizes, leaveAt, piece), func(t *testing.T) { checkCloseFrame(t, all, ends, leaveAt, piece) })
			}
		}
	}
}

func checkCloseFrame(t *testing.T, all []byte, ends map[int]bool, leaveAt, piece int) {
	var out bytes.Buffer
	s := newWebSocket(writesTo{w: &out}, t.Context())
	at := 0
	write := func(p []byte) {
		for len(p) > 0 {
			next := min(piece, len(p))
			if at >= 300 { // the middle of a long frame at once: it has nothing new, for a long time
				next = min(max(piece, len(all)-300-at), len(p))
			}
			n, err := s.Write(p[:next])
			if err != nil || n != next {
				t.Fatal(n, err)
			}
			p = p[n:]
			at += n
		}
	}
	write(all[:leaveAt])
	s.leave()
	write(all[leaveAt:])
	end := leaveAt
	for !ends[end] {
		end++
	}
	if want := append(bytes.Clone(all[:end]), goingAway...); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d bytes written, want %d and the close", out.Len(), len(want)-len(goingAway))
	}
}

// An upstream that closes by itself is not followed by a second Close.
func TestCloseFrameOfTheUpstreamIsEnough(t *testing.T) {
	var out bytes.Buffer
	s := newWebSocket(writesTo{w: &out}, t.Context())
	_, _ = s.Write(frame(8, 2))
	s.leave()
	if !bytes.Equal(out.Bytes(), frame(8, 2)) {
		t.Errorf("%x", out.Bytes())
	}
}

// writesTo is a connection that is only written to.
type writesTo struct {
	net.Conn
	w io.Writer
}

func (c writesTo) Write(p []byte) (int, error) { return c.w.Write(p) }
