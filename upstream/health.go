package upstream

import (
	"sync"
	"sync/atomic"
)

// Health notices that a server is down, and that it is up again, from the exchanges that happen anyway: nothing is asked for it.
//
// Down is a server that three exchanges in a row, at least, could not get a response of: its name does not resolve, it refuses, resets or does not take
// connections, TLS with it fails. Up is one that has answered since, with whatever status. What a slow response, a broken body or a
// client that leaves ends with counts neither way. A server that was never asked is up.
//
// A Health may outlive the upstreams that use it, as a configuration that is read again makes new ones. A nil Health notices nothing.
type Health struct {
	// Changed is called with each change, in order, one call after the other, on the way of a request: it must not wait. cause is that of the
	// last failure; CauseNone when the server is up.
	Changed func(up bool, cause Cause)

	row  atomic.Int32 // failures since the last response; a response looks at this alone
	mu   sync.Mutex
	down bool
}

// downAfter is how many exchanges in a row fail until a server is called down: one may be a connection that ended while it was not used.
const downAfter = 3

// tells reports whether c says that there is no server to talk to.
func (c Cause) tells() bool {
	switch c {
	case DNSTimeout, DNSError, DestinationUnavailable, DestinationIPUnroutable, ConnectionRefused, ConnectionTerminated, ConnectionTimeout,
		TLSProtocolError, TLSCertificateError, TLSAlertReceived:
		return true
	}
	return false
}

func (h *Health) answered() {
	if h == nil || h.row.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.row.Store(0)
	if h.down {
		h.down = false
		h.Changed(true, CauseNone)
	}
}

func (h *Health) failed(c Cause) {
	if h == nil || !c.tells() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.row.Load(); n < downAfter {
		h.row.Store(n + 1)
	}
	if h.row.Load() == downAfter && !h.down {
		h.down = true
		h.Changed(false, c)
	}
}
