package proxy

import (
	"net/netip"
	"strings"
)

// client finds out who is asking. The peer is whoever holds the connection; only when the peer is trusted is the forwarding
// field read, from the right (each proxy appends the address it saw), and the first address that is not itself a trusted
// proxy is the client. The leftmost entry is whatever the client chose to write, and is never taken on trust.
func (j *journey) client() {
	j.peer = peerAddr(j.r.RemoteAddr)
	j.addr = j.peer
	j.trusted = j.h.trusts(j.peer)
	j.scheme = "http"
	if j.r.TLS != nil {
		j.scheme = "https"
	}
	if !j.trusted {
		return
	}
	proto := j.r.Header.Get("X-Forwarded-Proto")
	if proto == "" && strings.EqualFold(j.h.opt.Client.Header, "Forwarded") {
		proto = lastForwarded(j.r.Header["Forwarded"], "proto")
	}
	if proto = strings.ToLower(proto); proto == "https" || proto == "http" {
		j.scheme = proto
	}
	j.addr = j.h.walk(j.peer, j.r.Header.Values(j.h.opt.Client.Header))
}

// peerAddr reads http.Request.RemoteAddr. A unix socket's peer has no address: the zero Addr.
func peerAddr(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

func (h *Handler) trusts(a netip.Addr) bool { return contains(h.opt.Client.Trusted, a) }

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// walk goes through the elements of a forwarding field from the right until one is not a trusted proxy. An element that is
// no address ends the walk at the last one that was believed.
func (h *Handler) walk(peer netip.Addr, lines []string) netip.Addr {
	last := peer
	for i := len(lines) - 1; i >= 0; i-- {
		elements := strings.Split(lines[i], ",")
		for k := len(elements) - 1; k >= 0; k-- {
			a, ok := h.forwardedAddr(elements[k])
			if !ok {
				return last
			}
			last = a
			if !h.trusts(a) {
				return last
			}
		}
	}
	return last
}

// forwardedAddr reads one element: an address of X-Forwarded-For, or the for parameter of Forwarded (RFC 7239 section 6).
func (h *Handler) forwardedAddr(element string) (netip.Addr, bool) {
	element = strings.TrimSpace(element)
	if strings.EqualFold(h.opt.Client.Header, "Forwarded") {
		element = forwardedParameter(element, "for")
	}
	if a, err := netip.ParseAddr(strings.Trim(element, "[]")); err == nil {
		return a.Unmap(), true
	}
	if ap, err := netip.ParseAddrPort(element); err == nil {
		return ap.Addr().Unmap(), true
	}
	return netip.Addr{}, false
}

// forwardedParameter is a parameter of an element of Forwarded, "" where it has none (RFC 7239 section 4).
func forwardedParameter(element, parameter string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, parameter) {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// lastForwarded is a parameter of the last element of Forwarded, which the peer itself has written.
func lastForwarded(lines []string, parameter string) string {
	if len(lines) == 0 {
		return ""
	}
	line := lines[len(lines)-1]
	return forwardedParameter(line[strings.LastIndexByte(line, ',')+1:], parameter)
}

// clientNetwork is the address under which a client is counted: an IPv4 address whole, an IPv6 address cut to the prefix that
// one client usually holds.
func (h *Handler) clientNetwork(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(h.opt.Client.IPv6Prefix)
	if err != nil {
		return a
	}
	return p.Addr()
}
