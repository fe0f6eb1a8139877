package store

import (
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"cacheproxy/policy"
)

// Packing: where the rule asks for it (policy.Compression), the value in Redis has the body compressed. It differs from the block in that,
// and in flagPacked; all lengths and the digest are those of the block. Reading it makes the block again, once: near memory has
// the block. Chunks are not packed, so that a range reads only its chunks.

// minPacked is the shortest body that is packed: below it there is little to gain.
const minPacked = 256

// encoder and decoder may be used concurrently, and run no goroutines for whole bodies.
var (
	encoder, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxRedisBody))
	decoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(2*maxRedisBody))
)

// packed is the value of e in Redis: its block, or that with the body compressed where its flags ask for it and it gets shorter.
func packed(e *Entry) []byte {
	block, head, body := e.block(), int(e.u32(atHeadEnd))+digestLen, e.Body()
	if e.compression() == policy.Uncompressed || len(body) < minPacked {
		return block
	}
	value := make([]byte, head, head+len(body))
	copy(value, block[:mutableStart]) // others may be writing the words between
	copy(value[mutableEnd:], block[mutableEnd:])
	switch e.compression() {
	case policy.S2:
		value = append(value, s2.Encode(nil, body)...)
	case policy.Zstd:
		value = encoder.EncodeAll(body, value)
	}
	if len(value) >= len(block) {
		return block
	}
	putU32(value, atFlags, getU32(value, atFlags)|flagPacked)
	return value
}

// unpack makes the block of a value that is packed, and returns any other as it is.
func unpack(value []byte) ([]byte, error) {
	if checkVersion(value) != nil || getU32(value, atFlags)&flagPacked == 0 {
		return value, nil
	}
	e := entryOf(value) // its preamble alone may be looked at
	head, size := uint64(e.u32(atHeadEnd))+digestLen, e.u64(atBodyLen)
	if head > uint64(len(value)) || size > maxRedisBody {
		return nil, corrupt("packed lengths")
	}
	block := make([]byte, head, head+size)
	copy(block, value)
	var err error
	switch compressed := value[head:]; e.compression() {
	case policy.S2:
		if n, lengthErr := s2.DecodedLen(compressed); lengthErr != nil || uint64(n) != size {
			return nil, corrupt("packed body")
		}
		_, err = s2.Decode(block[head:head+size], compressed)
		block = block[:head+size]
	case policy.Zstd:
		block, err = decoder.DecodeAll(compressed, block)
	default:
		return nil, corrupt("packed without a compression")
	}
	if err != nil || uint64(len(block)) != head+size {
		return nil, corrupt("packed body")
	}
	putU32(block, atFlags, getU32(block, atFlags)&^flagPacked)
	return block, nil
}

// compression is what the rule asked for; Redis may still have the body as it is.
func (e *Entry) compression() policy.Compression {
	switch flags := e.u32(atFlags); {
	case flags&flagS2 != 0:
		return policy.S2
	case flags&flagZstd != 0:
		return policy.Zstd
	}
	return policy.Uncompressed
}
