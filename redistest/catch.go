package redistest

import (
	"bytes"
	"sync"
)

// A Catch holds single requests, or the answers to them, while everything else passes: a command that comes late, a client that dies between
// two of them. A client's piece is what it wrote at once: a command, or a pipeline of some.
type Catch struct {
	fault   *Fault
	match   func(piece []byte) bool
	answers bool
	caught  chan struct{} // closed when there is one
	over    chan struct{} // closed by Release

	mu    sync.Mutex
	count int
	ended bool
}

// Catch holds, from now on and until Release, every piece from a client that contains all of these texts, and what comes behind it on the
// same connection. It is on its way even when its client has given up: released, it reaches the server, unless the connection was cut.
func (f *Fault) Catch(texts ...string) *Catch { return f.catch(false, texts) }

// CatchAnswers lets such pieces reach the server, and holds what the server says on their connections.
func (f *Fault) CatchAnswers(texts ...string) *Catch { return f.catch(true, texts) }

func (f *Fault) catch(answers bool, texts []string) *Catch {
	c := &Catch{fault: f, answers: answers, caught: make(chan struct{}), over: make(chan struct{})}
	c.match = func(piece []byte) bool {
		for _, text := range texts {
			if !bytes.Contains(piece, []byte(text)) {
				return false
			}
		}
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.catches = append(f.catches, c)
	return c
}

// Caught is closed when something is held for the first time.
func (c *Catch) Caught() <-chan struct{} { return c.caught }

// Count is how many pieces have been caught.
func (c *Catch) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Release lets what is held go on, and catches nothing any more.
func (c *Catch) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended = true
		close(c.over)
	}
}

// holds reports whether what was caught is still held.
func (c *Catch) holds() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended
}

// takes notes that a piece is caught, and reports false where nothing is any more.
func (c *Catch) takes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if c.count++; c.count == 1 {
		close(c.caught)
	}
	return true
}

// caughtBy is what catches a piece from a client; nil = nothing does. A catch of answers is noted on the link, and the piece goes on.
func (f *Fault) caughtBy(l *link, piece []byte) *Catch {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.catches {
		if !c.match(piece) || !c.takes() {
			continue
		}
		if !c.answers {
			return c
		}
		l.silenced = c
	}
	return nil
}

// silencedBy is what holds the server's answers on the link; nil = nothing does.
func (f *Fault) silencedBy(l *link) *Catch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return l.silenced
}

// Aim puts the proxy in front of another server: connections that exist are reset, new ones are made there.
func (f *Fault) Aim(s *Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server, f.target = s, s.Addr()
	for l := range f.links {
		l.reset()
	}
}
