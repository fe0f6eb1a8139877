package store

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/policy"
)

// An Upload takes a body that is too large to be held, piece by piece as it comes from upstream, and has the URL's worker write its
// chunks to Redis. Other saves wait for nothing; an upload, which an upstream that is faster than Redis would always outrun, may hold
// its body back for uploadPatience in all, as the slowest of its readers may. What does not fit in the queue then ends it. Until its
// entry is saved nobody finds the chunks, and they expire by themselves (chunkProvisional).
//
// One goroutine at a time may use it.
type Upload struct {
	far     *far
	url     string
	variant string
	fill    uint64
	buffer  *chunkBuffer           // holds the chunk under way; nil between two
	chunk   []byte                 // that chunk so far, with room for its digest
	n       int                    // its number
	length  int64                  // of the body so far
	patient time.Duration          // how long it may still wait
	failed  atomic.Pointer[string] // how, as cacheproxy_saves_total has it; nil = it has not
}

// chunkProvisional is how long chunks live whose entry is not saved yet: longer than a fetch may take to be stored.
const chunkProvisional = 10 * time.Minute

// uploadPatience is how long an upload may hold its body back in all.
const uploadPatience = time.Second

// Upload begins to store a body whose fetch is named fill, which is not 0. It returns nil where Redis takes none now.
func (s *Store) Upload(key policy.Key, nomination policy.Nomination, selection []byte, fill uint64) *Upload {
	if !s.CanUpload() {
		return nil
	}
	return &Upload{far: s.far, url: strings.Clone(key.URL), variant: variantOf(key.Extras, nomination, selection), fill: fill, patient: uploadPatience}
}

// fail ends the upload; the first reason stays.
func (u *Upload) fail(result string) { u.failed.CompareAndSwap(nil, &result) }

// Write takes the next bytes of the body, which it copies. It reports false when the upload has failed; it then is of no further use.
func (u *Upload) Write(p []byte) bool {
	u.length += int64(len(p))
	for len(p) > 0 && u.failed.Load() == nil {
		if u.buffer == nil {
			var ok bool
			if u.patient, ok = u.far.saver.reserveWithin(chunkLen+taskOverhead, u.patient); !ok {
				u.fail(savedDroppedFull)
				break
			}
			u.buffer = chunkBuffers.Get().(*chunkBuffer)
			u.chunk = u.buffer[:digestLen]
		}
		n := min(len(p), digestLen+chunkLen-len(u.chunk))
		u.chunk = append(u.chunk, p[:n]...)
		p = p[n:]
		if len(u.chunk) == digestLen+chunkLen {
			u.send()
		}
	}
	return u.failed.Load() == nil
}

// send hands the chunk to the worker.
func (u *Upload) send() {
	sealChunk(u.chunk, u.fill, u.n)
	t := task{kind: taskChunk, url: u.url, buffer: u.buffer, chunk: u.chunk, number: u.n, upload: u, queued: time.Now()}
	u.buffer, u.chunk = nil, nil
	u.n++
	if !u.far.saver.lane(u.url).push(t) {
		u.far.saver.release(t.size())
		chunkBuffers.Put(t.buffer)
		u.fail(savedError)
	}
}

// Len is the number of bytes taken so far.
func (u *Upload) Len() int64 { return u.length }

// Abort ends an upload that will not be finished.
func (u *Upload) Abort() {
	u.fail(savedRefused)
	u.drop()
}

// drop gives back what is reserved for the chunk under way.
func (u *Upload) drop() {
	if u.buffer != nil {
		chunkBuffers.Put(u.buffer)
		u.buffer, u.chunk = nil, nil
		u.far.saver.release(chunkLen + taskOverhead)
	}
}

// finish hands over the last chunk, and reports whether all is on its way. If not it counts why.
func (u *Upload) finish() bool {
	if u.buffer != nil && u.failed.Load() == nil {
		u.send()
	}
	why := u.failed.Load()
	if why != nil {
		u.drop()
		u.far.metrics.Save(*why)
	}
	return why == nil
}

// SaveUploaded is SaveSince for an entry whose body was uploaded: d is its draft but for the body. Near memory gets the entry as soon as
// Redis has it.
func (s *Store) SaveUploaded(d Draft, u *Upload, stamp Stamp) policy.Reason {
	if !u.finish() {
		return policy.StoreFull
	}
	d.Chunked, d.Length, d.Body, d.Fill = true, u.length, nil, u.fill
	e, err := NewEntry(d)
	switch {
	case err != nil:
		return policy.TooLarge
	case !e.KeepUntil().After(s.now()) || s.forgets.since(e.URL(), stamp.moment) || !s.near.permits(e, stamp):
		s.metrics.Save(savedRefused)
		return policy.Stale
	}
	return s.far.save(e, stamp, u)
}

// saveInChunks saves an entry that near memory holds whole but that is too large for one value.
func (s *Store) saveInChunks(e *Entry, stamp Stamp) policy.Reason {
	u := s.Upload(e.Key(), e.Nomination(), e.Selection(), e.Fill())
	if u == nil {
		s.metrics.Save(savedError)
		return policy.StoreUnavailable
	}
	u.Write(e.Body())
	return s.SaveUploaded(e.Redraft(), u, stamp)
}

// runChunk writes one chunk.
func (s *saver) runChunk(t *task) {
	defer chunkBuffers.Put(t.buffer)
	switch {
	case t.upload.failed.Load() != nil:
		return
	case time.Since(t.queued) > s.maxWait:
		t.upload.fail(savedDroppedSlow)
		return
	case !s.far.breaker.Allow(), s.kill.Err() != nil, s.paused(time.Now()) != policy.None:
		t.upload.fail(savedError)
		return
	}
	key := s.far.keys.of(t.url).chunkKey(t.upload.variant, t.upload.fill, t.number)
	err := s.tell("chunk", func(ctx context.Context) error {
		return s.far.client.Set(ctx, key, t.chunk, chunkProvisional).Err()
	})
	if err != nil {
		s.pauseFor(err)
		t.upload.fail(savedError)
	}
}

// keepChunks lets the chunks of e live as long as e will, and reports whether all are there.
func (s *saver) keepChunks(e *Entry, ttl time.Duration) (all bool, err error) {
	err = s.tell("chunk", func(ctx context.Context) error {
		pipe := s.far.client.Pipeline()
		var replies []*redis.BoolCmd
		for _, key := range s.far.chunkKeys(e) {
			replies = append(replies, pipe.PExpire(ctx, key, ttl+chunkMargin))
		}
		_, err := pipe.Exec(ctx)
		all = true
		for _, reply := range replies {
			all = all && reply.Val()
		}
		return err
	})
	return all, err
}

// endReplaced lets the chunks of the entry that was replaced expire soon. replaced is what save.lua says of it: "" or "FILL CHUNKS".
func (s *saver) endReplaced(url, variant, replaced string) {
	keys := s.far.keys.of(url).toldChunks(variant, replaced)
	if len(keys) == 0 {
		return
	}
	_ = s.tell("chunk", func(ctx context.Context) error {
		pipe := s.far.client.Pipeline()
		for _, key := range keys {
			pipe.PExpire(ctx, key, chunkGrace)
		}
		_, err := pipe.Exec(ctx)
		return err
	})
}
