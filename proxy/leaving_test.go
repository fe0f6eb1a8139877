package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// The client who reads from upstream for all may leave while upstream is silent.
func TestPullingClientLeavesASilentUpstream(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		c := <-s.calls
		body := c.answer(200, "Cache-Control: max-age=600")
		_, _ = io.WriteString(body, "a")
		synctest.Wait()
		a.left()
		synctest.Wait()
		b := s.ask("/")
		synctest.Wait()
		_, _ = io.WriteString(body, "b")
		synctest.Wait()
		b.left()
		synctest.Wait()
		if c.Context().Err() != nil {
			t.Error("it was worth keeping")
		}
		time.Sleep(61 * time.Second) // more than it may take to be stored
		<-c.Context().Done()
		_ = body.CloseWithError(c.Context().Err()) // as a transport does
		<-a.done
		<-b.done
		synctest.Wait()
		if held := s.h.fills.memory.Load(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

func TestPullingClientWhoLeavesHandsOver(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		body := (<-s.calls).answer(200, "Cache-Control: max-age=600")
		_, _ = io.WriteString(body, "a")
		synctest.Wait()
		a.left()
		synctest.Wait()
		_, _ = io.WriteString(body, "b")
		_, _ = io.WriteString(body, "c")
		_ = body.Close()
		<-a.done
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "abc")
		s.wantCalls(1)
	})
}

// Nobody reads a window on behalf of a client who has left.
func TestPullingClientOfAWindowLeaves(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		c := <-s.calls
		body := c.answer(200, "Cache-Control: max-age=600")
		begin(body, "x")
		_, _ = body.Write(make([]byte, 100<<10))
		synctest.Wait()
		a.left()
		synctest.Wait()
		if c.Context().Err() == nil {
			t.Error("the request goes on for nobody")
		}
		_ = body.CloseWithError(io.ErrClosedPipe)
		<-a.done
	}, small)
}

type panickingBody struct{ io.ReadCloser }

func (panickingBody) Read([]byte) (int, error) { panic("on purpose") }

func TestPanicInABodyEndsAllWaiters(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(3, "/")
		synctest.Wait()
		h := http.Header{"Cache-Control": {"max-age=60"}}
		(<-s.calls).reply <- result{res: &http.Response{StatusCode: 200, Header: h, Body: panickingBody{http.NoBody}, ContentLength: -1}}
		for _, a := range all {
			if <-a.done; a.aborted != http.ErrAbortHandler { //nolint:errorlint // the very value is what net/http looks for
				t.Errorf("ended with %v", a.aborted)
			}
		}
		synctest.Wait()
		if held := s.h.fills.memory.Load(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

// A fill that has lost its place in the table ends with the Handler all the same.
func TestCloseEndsAFillThatWasReplaced(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		old := <-s.calls
		body := old.answer(200, "Cache-Control: max-age=600")
		_, _ = io.WriteString(body, "x")
		synctest.Wait()
		a.left()
		synctest.Wait()
		s.h.opt.Store.Forget("http://example.com/")
		b := s.ask("/")
		(<-s.calls).whole(200, "new", "Cache-Control: max-age=60")
		wantAll(t, []*asker{b}, 200, "new")
		go func() {
			<-old.Context().Done()
			_ = body.CloseWithError(io.ErrUnexpectedEOF)
		}()
	})
}

// To return without an answer is one: net/http makes an empty 200 of it.
func TestRequestThatEndsIsNotAnsweredWithAnEmpty200(t *testing.T) {
	onStage(t, func(s *stage) {
		gone := s.ask("/", "Cache-Control: no-store")
		<-s.calls
		gone.left()
		if <-gone.done; gone.aborted != http.ErrAbortHandler { //nolint:errorlint // the very value is what net/http looks for
			t.Errorf("%v", gone.aborted)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		go func() { <-s.calls }()
		s.h.ServeHTTP(w, httptest.NewRequest("GET", "http://example.com/", nil).WithContext(ctx))
		if w.Code != 502 {
			t.Errorf("%d", w.Code)
		}
	})
}
