package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"cacheproxy/policy"
	"cacheproxy/redistest"
)

var compressible = bytes.Repeat([]byte("the same again and again, "), 4000)

func random(n int) []byte {
	b, r := make([]byte, n), rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b)
	return b
}

// Whatever the body and the compression, what Redis has becomes the very block again.
func TestPack(t *testing.T) {
	for _, c := range []policy.Compression{policy.Uncompressed, policy.S2, policy.Zstd} {
		for _, test := range []struct {
			body    []byte
			shorter bool
		}{
			{nil, false}, {compressible[:minPacked-1], false}, {compressible[:minPacked], true}, {compressible, true}, {random(10000), false},
			{make([]byte, maxRedisBody), true}, {random(maxRedisBody), false},
		} {
			body := test.body
			d := draft("http://a.example/")
			d.Body, d.Compress = body, c
			e := mustEntry(t, d)
			value := packed(e)
			if shorter := len(value) < len(e.block()); shorter != (test.shorter && c != policy.Uncompressed) {
				t.Errorf("%s, %d bytes: %d of %d", c, len(body), len(value), len(e.block()))
			}
			block, err := unpack(bytes.Clone(value))
			if err != nil || !bytes.Equal(block, e.block()) {
				t.Fatalf("%s, %d bytes: %v", c, len(body), err)
			}
			if again, err := Decode(block); err != nil || again.Redraft().Compress != c {
				t.Errorf("%s: %v", c, err)
			}
		}
	}
}

// A packed value that was damaged is corrupt, and takes no more memory than it may.
func TestDamagedPackIsCorrupt(t *testing.T) {
	for _, c := range []policy.Compression{policy.S2, policy.Zstd} {
		d := draft("http://a.example/")
		d.Body, d.Compress = compressible, c
		e := mustEntry(t, d)
		value := packed(e)
		damaged := map[string][]byte{"cut": value[:len(value)-1], "cut in the head": value[:preambleLen+digestLen], "longer": append(bytes.Clone(value), 0)}
		for at := range value {
			flipped := bytes.Clone(value)
			flipped[at] ^= 0x10
			damaged[fmt.Sprint("flipped ", at)] = flipped
		}
		for what, length := range map[string]uint64{"longer length": uint64(len(d.Body)) + 1, "shorter length": 1, "no length": 0, "huge length": 1 << 62} {
			lying := bytes.Clone(value)
			putU64(lying, atBodyLen, length)
			damaged[what] = lying
		}
		none := bytes.Clone(value)
		putU32(none, atFlags, getU32(none, atFlags)&^(flagS2|flagZstd))
		damaged["no compression"] = none
		for what, value := range damaged {
			block, err := unpack(value)
			if err == nil {
				_, err = Decode(block)
			}
			switch {
			case what == "flipped 0", errors.Is(err, ErrNewer), errors.Is(err, ErrCorrupt):
			case err == nil && bytes.Equal(block[atEpoch:], e.block()[atEpoch:]): // staleSince is in no digest, nor is what a decoder skips
			default:
				t.Errorf("%s, %s: %v", c, what, err)
			}
		}
		if _, err := Decode(value); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a packed value is taken for a block: %v", err)
		}
	}
}

func TestPackedInRedis(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	for _, c := range []policy.Compression{policy.S2, policy.Zstd} {
		s := newStore(t, farOptions(client))
		d := draft("http://a.example/" + c.String())
		d.Body, d.Compress = compressible, c
		e := saved(t, s, d)
		key := newKeyspace("cp").of(e.URL()).entryKey(e.variant())
		if n := client.StrLen(t.Context(), key).Val(); n == 0 || n > int64(len(compressible)/4) {
			t.Errorf("%s: %d bytes", c, n)
		}
		r := s.Lookup(t.Context(), e.Key(), nil)
		if r.Entry == nil || !bytes.Equal(r.Entry.Body(), compressible) {
			t.Errorf("%s: %+v", c, r)
		}
	}
}
