package store

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/zeebo/xxh3"
)

// A body over 1 MiB lies in Redis in chunks, since reading it as one value would delay everybody else's replies, and holding it whole
// would cost each reader its size in memory.
//
//	P:b:{URL}:VARIANT:FILL:N   8 bytes of digest, then 256 KiB of the body, or what is left of it in the last one
//
// The entry that names them has no body, but its length, from which the number of chunks follows. FILL, which names the fetch of the
// body, is in the keys: so two fetches of one URL never mix, and whoever has an entry reads the bytes that belong to it or
// finds them gone. The digest is the xxh3-64 of the bytes, seeded with FILL and N.
//
// Chunks are written before their entry (upload.go) and expire after it. That all are there is asked before an entry is returned
// from a lookup, so before the first byte is sent to anybody.

const (
	chunkLen = 256 << 10 // bytes of body in a chunk
	// chunkMargin is how much longer than their entry chunks are kept: who found the entry in its last moment can still read.
	chunkMargin = time.Minute
	// chunkGrace is how long the chunks of a body that has been replaced are kept for those who are reading them.
	chunkGrace = 5 * time.Minute
	// chunkReads is how many chunks are read at once, so that transfers leave connections, and time on them, to lookups. More would
	// not be faster: Redis answers one after the other.
	chunkReads = 8
	// maxChunkedBody bounds what a preamble may claim.
	maxChunkedBody = 1 << 40
)

// errNoChunk: a chunk is gone, or is not what was written.
var errNoChunk = errors.New("store: a part of the body is no longer in redis")

func chunksOf(length int64) int { return int((length + chunkLen - 1) / chunkLen) }

// chunkKey is P:b:{URL}:VARIANT:FILL:N.
func (r resourceKeys) chunkKey(variant string, fill uint64, n int) string {
	return r.space.chunk + r.root[len(r.space.root):] + ":" + variant + ":" + fillHex(fill) + ":" + strconv.Itoa(n)
}

// chunkKeys are the keys of all chunks of e.
func (r *far) chunkKeys(e *Entry) []string {
	keys, variant := r.keys.of(e.URL()), e.variant()
	all := make([]string, chunksOf(e.BodyLen()))
	for n := range all {
		all[n] = keys.chunkKey(variant, e.Fill(), n)
	}
	return all
}

func chunkDigest(fill uint64, n int, data []byte) uint64 {
	return xxh3.HashSeed(data, fill+uint64(n)*0x9e3779b97f4a7c15)
}

// sealChunk writes the digest of chunk n into the first bytes of value, whose rest are the bytes of the body.
func sealChunk(value []byte, fill uint64, n int) {
	binary.BigEndian.PutUint64(value, chunkDigest(fill, n, value[digestLen:]))
}

// openChunk returns the bytes of chunk n of e, or errNoChunk where value is something else.
func (r *far) openChunk(e *Entry, n int, value []byte) ([]byte, error) {
	want := min(chunkLen, e.BodyLen()-int64(n)*chunkLen)
	if int64(len(value)) != digestLen+want || binary.BigEndian.Uint64(value) != chunkDigest(e.Fill(), n, value[digestLen:]) {
		r.metrics.Corrupt()
		return nil, errNoChunk
	}
	return value[digestLen:], nil
}

// hasChunks asks whether all chunks of e are there.
func (r *far) hasChunks(ctx context.Context, e *Entry) (bool, error) {
	keys := r.chunkKeys(e)
	n, err := r.client.Exists(ctx, keys...).Result()
	return n == int64(len(keys)), err
}

// checkChunks is hasChunks for an entry that near memory has, with all that a lookup does around asking Redis. Those who want the same
// body at once ask once: the question names every chunk, and a thousand of them would keep Redis from all else.
func (r *far) checkChunks(ctx context.Context, e *Entry) (bool, error) {
	if r.closed.Load() || !r.breaker.Allow() {
		return false, errNotAsked
	}
	ctx = context.WithoutCancel(ctx) // others may wait for the answer, no longer than the timeout
	_, err, _ := r.checks.Do(fillHex(e.Fill())+e.URL(), func() (any, error) {
		limited, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		start := time.Now()
		there, err := r.hasChunks(limited, e)
		r.metrics.RedisSeconds("lookup", time.Since(start))
		r.settle(ctx, "lookup", err)
		if err == nil && !there {
			err = errNoChunk
		}
		return nil, err
	})
	if errors.Is(err, errNoChunk) {
		return false, nil
	}
	return err == nil, err
}

var errNotAsked = errors.New("store: redis is not being asked")

// whole makes of an entry in chunks one that holds its body. It returns errNoChunk where a chunk is gone.
func (r *far) whole(ctx context.Context, e *Entry) (*Entry, error) {
	pipe := r.client.Pipeline()
	keys := r.chunkKeys(e)
	replies := make([]*redis.StringCmd, len(keys))
	for n, key := range keys {
		replies[n] = pipe.Get(ctx, key)
	}
	// Exec returns an error of one of the replies, which are looked at below, or its own (see gatherer.send): then they look empty.
	_, err := pipe.Exec(ctx)
	if err != nil && !slices.ContainsFunc(replies, func(reply *redis.StringCmd) bool { return reply.Err() != nil }) {
		return nil, err
	}
	body := make([]byte, 0, e.BodyLen())
	for n, reply := range replies {
		value, err := reply.Bytes()
		switch {
		case errors.Is(err, redis.Nil):
			return nil, errNoChunk
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			r.metrics.Corrupt()
			return nil, errNoChunk
		case err != nil:
			return nil, err
		}
		data, err := r.openChunk(e, n, value)
		if err != nil {
			return nil, err
		}
		body = append(body, data...)
	}
	d := e.Redraft()
	d.Chunked, d.Length, d.Body = false, 0, body
	return NewEntry(d)
}

// A Body reads a stored body piece by piece. Only one goroutine may use it.
type Body struct {
	store  *Store
	e      *Entry
	buffer *chunkBuffer // what chunks are read into; nil until the first
	piece  []byte       // read and not yet returned
	at     int64        // offset of what follows it
	end    int64
}

// chunkBuffer has room for a chunk as Redis keeps it, and for the end of line that the protocol puts behind it.
type chunkBuffer [digestLen + chunkLen + 2]byte

// chunkBuffers are lent for as long as a chunk is on its way to Redis or to a client: a body of any size needs few of them.
var chunkBuffers = sync.Pool{New: func() any { return new(chunkBuffer) }}

// Open begins to read the bytes of the entry's body from first on, up to but not including end. It reads the first of them, so what
// is gone altogether is known before anything is sent. The entry is one that this store's Lookup returned.
func (s *Store) Open(ctx context.Context, e *Entry, first, end int64) (*Body, error) {
	b := &Body{store: s, e: e, at: first, end: end}
	if !e.Chunked() {
		b.piece, b.at = e.Body()[first:end], end
		return b, nil
	}
	if s.far == nil {
		return nil, errNotAsked
	}
	return b, b.read(ctx)
}

// Next returns the next bytes, which are only to be read, and only until Next or Close is called; or io.EOF after the last. Any other error
// means that the rest is not to be had: a chunk is gone, which also forgets the entry, or Redis did not answer in time.
func (b *Body) Next(ctx context.Context) ([]byte, error) {
	if len(b.piece) == 0 {
		if err := b.read(ctx); err != nil {
			return nil, err
		}
	}
	piece := b.piece
	b.piece = nil
	return piece, nil
}

// Close ends the reading. It may be left out where nothing was read.
func (b *Body) Close() {
	b.piece, b.at = nil, b.end
	if b.buffer != nil {
		chunkBuffers.Put(b.buffer)
		b.buffer = nil
	}
}

// read reads the chunk in which the next byte lies. An entry that lacks it, or has something else there, is forgotten: whoever asks next
// would get as far and no further.
func (b *Body) read(ctx context.Context) error {
	if b.at >= b.end {
		return io.EOF
	}
	if b.buffer == nil {
		b.buffer = chunkBuffers.Get().(*chunkBuffer)
	}
	n := int(b.at / chunkLen)
	data, err := b.store.far.chunk(ctx, b.e, n, b.buffer)
	if errors.Is(err, errNoChunk) {
		b.store.ForgetEntry(b.e)
	}
	if err != nil {
		return err
	}
	from := int64(n) * chunkLen
	b.piece = data[b.at-from : min(int64(len(data)), b.end-from)]
	b.at += int64(len(b.piece))
	return nil
}

// chunk reads chunk n of e into buffer, or returns errNoChunk where it is gone. Waiting for a turn is not waiting for Redis, and
// has no bound but ctx: where Redis does not answer, the breaker soon ends it for all.
func (r *far) chunk(ctx context.Context, e *Entry, n int, buffer *chunkBuffer) ([]byte, error) {
	select {
	case r.reads <- struct{}{}:
		defer func() { <-r.reads }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.closed.Load() || !r.breaker.Allow() {
		return nil, errNotAsked
	}
	limited, cancel := context.WithTimeout(ctx, r.saver.timeout)
	defer cancel()
	start := time.Now()
	reply := r.client.GetToBuffer(limited, r.keys.of(e.URL()).chunkKey(e.variant(), e.Fill(), n), buffer[:])
	r.metrics.RedisSeconds("chunk", time.Since(start))
	switch err := reply.Err(); {
	case errors.Is(err, redis.Nil):
		r.settle(ctx, "chunk", nil)
		return nil, errNoChunk
	case err != nil && (strings.HasPrefix(err.Error(), "redis: buffer too small") || redis.HasErrorPrefix(err, "WRONGTYPE")):
		r.settle(ctx, "chunk", nil)
		r.metrics.Corrupt()
		return nil, errNoChunk
	case err != nil:
		r.settle(ctx, "chunk", err)
		return nil, err
	}
	r.settle(ctx, "chunk", nil)
	return r.openChunk(e, n, reply.Bytes())
}
