package main

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/cmd/cacheproxy/internal/witness"
)

// floods: what one client sends without end, within bounds of time and count. n counts from 0; false: no more.
var floods = []struct {
	name  string
	n     int
	begin func(f *framed)
	frame func(f *framed, n int) error
}{
	{"rapid reset", 5_000, nil, func(f *framed, n int) error {
		stream := uint32(2*n + 1)
		head := http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.encode(pathOf(n)), EndHeaders: true, EndStream: true}
		return errors.Join(f.WriteHeaders(head), f.WriteRSTStream(stream, http2.ErrCodeCancel))
	}},
	{"rapid reset with content", 5_000, nil, func(f *framed, n int) error {
		stream := uint32(2*n + 1)
		head := http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.encode(plainHead), EndHeaders: true}
		return errors.Join(f.WriteHeaders(head), f.WriteData(stream, false, []byte("a")), f.WriteRSTStream(stream, http2.ErrCodeCancel))
	}},
	{"reset by the server", 5_000, nil, func(f *framed, n int) error { // MadeYouReset: a window update of nothing is an error of the stream
		stream := uint32(2*n + 1)
		head := http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.encode(plainHead), EndHeaders: true, EndStream: true}
		return errors.Join(f.WriteHeaders(head), f.WriteWindowUpdate(stream, 0))
	}},
	{"CONTINUATION", 5_000, func(f *framed) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(plainHead)})
	}, func(f *framed, n int) error {
		return f.WriteContinuation(1, false, f.encode(fields{{fmt.Sprint("x-", n), strings.Repeat("a", 1000)}}))
	}},
	{"empty CONTINUATION", 20_000, func(f *framed) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(plainHead)})
	}, func(f *framed, n int) error { return f.WriteContinuation(1, false, nil) }},
	{"references to one large field", 50, nil, func(f *framed, n int) error {
		list := append(fields{}, plainHead...)
		for range 400 {
			list = append(list, [2]string{"x", strings.Repeat("a", 3000)})
		}
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: f.encode(list), EndHeaders: true, EndStream: true})
	}},
	{"SETTINGS", 20_000, nil, func(f *framed, n int) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n)})
	}},
	{"PING", 20_000, nil, func(f *framed, n int) error { return f.WritePing(false, [8]byte{byte(n)}) }},
	{"PRIORITY", 20_000, nil, func(f *framed, n int) error {
		return f.WritePriority(uint32(2*n+1), http2.PriorityParam{StreamDep: uint32(2*n + 3)})
	}},
	{"empty DATA", 20_000, func(f *framed) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(plainHead), EndHeaders: true})
	}, func(f *framed, n int) error { return f.WriteData(1, false, nil) }},
	{"WINDOW_UPDATE", 20_000, nil, func(f *framed, n int) error { return f.WriteWindowUpdate(0, 1) }},
	{"streams that do not end", 5_000, nil, func(f *framed, n int) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: f.encode(plainHead), EndHeaders: true})
	}},
}

// pathOf is a request that nothing stored answers.
func pathOf(n int) fields {
	return fields{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", fmt.Sprint("/flood/", n)}}
}

// Whoever floods a connection is bounded or ended, and nobody else notices.
func TestH2Floods(t *testing.T) {
	const most = 128 << 20 // bytes of heap more than before; 250 requests under way take up to 64 MiB of that with both ends in this process
	k := newStack(t, nil, false)
	defer k.close(t)
	other := k.dialH2(t, false)
	defer other.Close()
	for i, flood := range floods {
		t.Run(flood.name, func(t *testing.T) {
			before := heap()
			f := k.dialH2(t, false)
			defer f.Close()
			_ = f.SetDeadline(time.Now().Add(5 * time.Second))
			if flood.begin != nil {
				flood.begin(f)
			}
			sent := 0
			for sent < flood.n && flood.frame(f, sent) == nil {
				sent++
			}
			// It reads nothing while it floods: what it is answered has to wait, and be bounded.
			name := fmt.Sprint("beside", i)
			other.wants(t, uint32(2*i+1), name)
			if more := heap() - before; more > most {
				t.Errorf("%d MiB of memory more after %d of them", more>>20, sent)
			}
			t.Logf("%d were sent; it ended with: %s; %d requests reached the upstream", sent, f.end(), len(k.upstream.Messages()))
		})
	}
}

// heap is how much of it is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// end reads what the server has to say at last.
func (f *framed) end() string {
	_ = f.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return "nothing"
			}
			return err.Error()
		}
		if goAway, ok := frame.(*http2.GoAwayFrame); ok {
			return fmt.Sprint(goAway.ErrCode, " ", string(goAway.DebugData()))
		}
	}
}

// A client whose window is closed takes nothing, and is ended as one of HTTP/1.1 is; one that waits for news is not.
func TestClosedWindow(t *testing.T) {
	news := make(chan struct{})
	k := newStackOn(t, func(m *witness.Message) witness.Reply {
		if m.Target == "/news" {
			<-news
		}
		return witness.Echo(m)
	}, stackOptions{flags: []config.Flag{{Key: "server.write_timeout", Value: "100ms"}}})
	defer k.close(t)
	f := k.dialH2(t, false)
	defer f.Close()
	waits := k.dialH2(t, false)
	defer waits.Close()
	waits.ask(1, "news")
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	f.ask(1, "x")
	if got := f.answer(1); !strings.Contains(got, "reset") {
		t.Errorf("a client with a closed window: %s", got)
	}
	close(news)
	if got := waits.answer(1); got != "200 "+pageBody("news") {
		t.Errorf("a client that waits: %s", got)
	}
}
