package invalidation

import "iter"

// A GlobPart is what one or more bytes of a pattern stand for.
type GlobPart struct {
	Kind GlobKind
	Byte byte // of GlobByte
}

// GlobKind is a kind of part.
type GlobKind uint8

// The kinds.
const (
	GlobByte GlobKind = iota // this very byte
	GlobOne                  // one byte: any, or one of a set
	GlobAny                  // any number of bytes
)

// Parts are those of the pattern, in order. Whatever the pattern matches can be parted so that each part stands for its share. It is for
// those who must ask for what the pattern matches in another language, and may ask for more.
func (g Glob) Parts() iter.Seq[GlobPart] {
	return func(yield func(GlobPart) bool) {
		for p := g.pattern; p != ""; {
			part, n := GlobPart{GlobByte, p[0]}, 1
			switch p[0] {
			case '*':
				part = GlobPart{Kind: GlobAny}
			case '?':
				part = GlobPart{Kind: GlobOne}
			case '[':
				part = GlobPart{Kind: GlobOne}
				n, _ = matchSet(p, 0) // how long a set is does not depend on what is compared with it
			case '\\':
				if len(p) > 1 {
					part.Byte, n = p[1], 2
				}
			}
			if !yield(part) {
				return
			}
			p = p[n:]
		}
	}
}
