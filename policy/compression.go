package policy

import "fmt"

// Compression is how the store keeps a body in Redis. It is no content coding: what is sent and what near memory holds are the body.
type Compression uint8

// The compressions. S2 costs little time and makes text about half as long; Zstandard (RFC 8878) makes it shorter still, for more.
const (
	Uncompressed Compression = iota
	S2
	Zstd
)

var compressions = [...]string{Uncompressed: "none", S2: "s2", Zstd: "zstd"}

func (c Compression) String() string { return compressions[c] }

// parseCompression reads the name of a compression; "" is Uncompressed.
func parseCompression(name string) (Compression, error) {
	if name == "" {
		return Uncompressed, nil
	}
	for c, known := range compressions {
		if name == known {
			return Compression(c), nil
		}
	}
	return Uncompressed, fmt.Errorf("%q is not one of none, s2, zstd", name)
}
