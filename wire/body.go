package wire

// Content as RFC 9112 section 6 frames it.

// maxExtension is how many bytes of extensions a chunk may have: net/http's own bound on the line.
const maxExtension = 4 << 10

// beginContent finds what follows the head.
func (s *scanner) beginContent() {
	switch h := &s.head; {
	case h.chunked:
		s.beginChunk()
	case h.length > 0:
		s.state, s.left = atLength, h.length
	default:
		s.state = atBoundary
	}
}

func (s *scanner) beginChunk() { s.state, s.left, s.named, s.size = atSize, 0, 0, 0 }

// scanContent follows one state's bytes of p.
func (s *scanner) scanContent(p []byte) (int, *Fault) {
	switch s.state {
	case atLength, atChunk:
		n := int(min(s.left, int64(len(p))))
		switch s.left -= int64(n); {
		case s.left > 0:
		case s.state == atChunk:
			s.state = atChunkCR
		default:
			s.state = atBoundary
		}
		return n, nil
	case atSize:
		return s.scanSize(p[0])
	case atExtension:
		return s.scanExtension(p)
	}
	return s.scanChunkEnd(p[0])
}

// scanSize takes one digit of a chunk's size, or what ends it. Fifteen digits are more than anybody sends, and fit.
func (s *scanner) scanSize(b byte) (int, *Fault) {
	digit := int64(-1)
	switch {
	case b >= '0' && b <= '9':
		digit = int64(b - '0')
	case lower(b) >= 'a' && lower(b) <= 'f':
		digit = int64(lower(b)-'a') + 10
	case b == '\n':
		return 0, faultBareLF
	case s.named == 0:
		return 0, faultChunk
	case b == ';':
		s.state = atExtension
		return 1, nil
	case b == '\r':
		s.state = atSizeLF
		return 1, nil
	}
	if s.named++; digit < 0 || s.named > 15 {
		return 0, faultChunk
	}
	s.left = s.left<<4 | digit
	return 1, nil
}

// scanExtension takes chunk extensions, which mean nothing to us, and the CR behind them.
func (s *scanner) scanExtension(p []byte) (int, *Fault) {
	n := span(p, isValue)
	if s.size += n; s.size > maxExtension {
		return n, faultChunk
	}
	switch {
	case n == len(p):
		return n, nil
	case p[n] == '\n':
		return n, faultBareLF
	case p[n] != '\r':
		return n, faultChunk
	}
	s.state = atSizeLF
	return n + 1, nil
}

// scanChunkEnd takes one byte of the line ends around a chunk.
func (s *scanner) scanChunkEnd(b byte) (int, *Fault) {
	switch {
	case s.state == atChunkCR && b == '\r':
		s.state = atChunkLF
	case s.state == atChunkCR && b == '\n':
		return 0, faultBareLF
	case s.state == atChunkCR:
		return 0, faultChunk
	case b != '\n':
		return 0, faultBareCR
	case s.state == atChunkLF:
		s.beginChunk()
	case s.left == 0: // the last chunk: trailers follow
		s.trailer, s.state, s.size, s.fields = true, atField, 0, 0
	default:
		s.state = atChunk
	}
	return 1, nil
}
