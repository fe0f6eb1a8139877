package policy

// What RFC 9110 section 15 and RFC 9111 say of status codes.

// heuristicStatus reports whether a response of this status may be stored without explicit freshness, its lifetime being
// guessed ("heuristically cacheable", RFC 9110 section 15.1).
func heuristicStatus(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// negativeStatus lists the errors that are stored by default, and whose lifetime negative_ttl names.
func negativeStatus(status int) bool {
	switch status {
	case 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// personalStatus lists the errors that are about the one request or client that got them, and that no cache may store, whatever
// they say of their freshness (RFC 6585 sections 3 to 6).
func personalStatus(status int) bool {
	switch status {
	case 428, 429, 431, 511:
		return true
	}
	return false
}

// understoodStatus reports whether the caching requirements of this status are known here: what must-understand asks
// (RFC 9111 section 5.2.2.3). Those are the final status codes of RFC 9110, RFC 6585 (see personalStatus), and RFC 7725 and
// 8470, which a cache treats like any other error. 304 is not among them: it is never stored as itself.
func understoodStatus(status int) bool {
	switch {
	case status >= 200 && status <= 206, status >= 300 && status <= 303, status == 305, status == 307, status == 308:
		return true
	case status >= 400 && status <= 417, status == 421, status == 422, status == 425, status == 426:
		return true
	case status == 428, status == 429, status == 431, status == 451:
		return true
	case status >= 500 && status <= 505, status == 511:
		return true
	}
	return false
}
