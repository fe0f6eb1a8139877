package proxy

import (
	"errors"
	"io"
	"sync"
	"time"

	"cacheproxy/policy"
)

// How the buffer of a fill is filled. As long as the body may be stored it is kept whole, so that anybody can still join and nobody's
// pace matters to anybody else. A body that turns out too large to be stored goes on as a window: what the slowest reader
// has read is dropped, and a full window waits for the slowest reader - for a bounded time where there are several, since
// one client that reads slowly must not set the pace of the others. Where Redis takes such bodies, it is uploaded as it comes.

const smallBuffer = 4 << 10 // bytes; what is set aside at least

// allot reserves memory for the body. It reports false where there is none, so that the response cannot be shared.
func (f *fill) allot(a answer) bool {
	size := int64(smallBuffer)
	switch n := a.res.ContentLength; {
	case n > a.plan.limit:
		if f.upload = a.plan.upload(); f.upload == nil {
			return false
		}
		size = f.t.h.opt.Collapse.Window
	case n >= 0:
		size = n + 1 // one more, so that the read that brings the end needs no larger buffer
	}
	if size <= smallBuffer {
		size = smallBuffer
	}
	if !f.t.reserve(size) {
		f.endUpload()
		return false
	}
	f.held = size
	if size == smallBuffer {
		f.pooled, _ = smallBuffers.Get().(*[smallBuffer]byte)
		f.buf = f.pooled[:0]
		return true
	}
	f.buf = make([]byte, 0, size)
	return true
}

// smallBuffers lends the first buffer of a fill, which is all that most bodies need.
var smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}

// free gives the buffer and its memory back. Called with the lock held, when the body has ended and nobody reads it any more.
func (f *fill) free() {
	f.t.release(f.held)
	f.held, f.buf = 0, nil
	if f.pooled != nil {
		smallBuffers.Put(f.pooled)
		f.pooled = nil
	}
}

// pull reads once from upstream. The store holds the response before any reader is given its last byte, so that a client who asks
// again at once finds it there. Only the one that has set pulling calls it; pulling is off again afterwards.
func (f *fill) pull() {
	defer func() {
		if p := recover(); p != nil { // else the others would wait for ever, and without a reader the process would end
			f.finish(0, f.t.h.panicked("reading a body", p))
		}
	}()
	res := f.answer.res
	p, ok := f.room()
	if !ok {
		f.finish(0, errLeft)
		return
	}
	n, err := res.Body.Read(p)
	if n < 0 || n > len(p) {
		panic("a body's Read returns an impossible count")
	}
	if err == nil && f.size+int64(n) == res.ContentLength {
		err = atEnd(res.Body)
	}
	if err != nil {
		f.finish(n, err)
		return
	}
	f.feed(p[:n])
	f.mu.Lock()
	f.extend(n)
	f.mu.Unlock()
}

// feed uploads the next bytes, where there is an upload.
func (f *fill) feed(p []byte) {
	if f.upload == nil {
		return
	}
	why := policy.None
	switch {
	case f.upload.Len()+int64(len(p)) > f.answer.plan.most:
		why = policy.TooLarge
	case !f.upload.Write(p):
		why = policy.StoreFull
	}
	if why != policy.None {
		f.endUpload()
		f.x.refused(why)
	}
}

// endUpload gives the upload up; nothing of this body is stored then.
func (f *fill) endUpload() {
	if f.upload != nil {
		f.upload.Abort()
		f.upload, f.unkept = nil, true
	}
}

// atEnd reads the end of a body whose length has been reached: io.EOF if it is one.
func atEnd(body io.Reader) error {
	var more [1]byte
	for {
		n, err := body.Read(more[:])
		switch {
		case n > 0:
			return errTooLong
		case err != nil:
			return err
		}
	}
}

// errTooLong: more came than Content-Length had said.
var errTooLong = errors.New("proxy: the body is longer than its Content-Length")

// room returns where the next bytes go: the free part of the buffer, which nobody reads. It makes the buffer larger, or opens
// the window, or waits for it. It reports false when nobody is left to read a windowed body.
func (f *fill) room() ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.buf) == cap(f.buf) {
		switch {
		case f.windowed:
			if f.waiters == 0 || f.t.h.stop.Err() != nil {
				return nil, false
			}
			f.trim()
			if len(f.buf) == cap(f.buf) {
				f.awaitReaders()
			}
		case !f.grow():
			f.openWindow()
		}
	}
	return f.buf[len(f.buf):cap(f.buf)], true
}

// grow doubles the buffer within the plan's limit and the memory of all fills.
func (f *fill) grow() bool {
	limit := f.answer.plan.limit + 1
	size := min(int64(cap(f.buf))*2, limit)
	if size <= int64(cap(f.buf)) || !f.t.reserve(size-f.held) {
		return false
	}
	f.held = size
	f.buf = append(make([]byte, 0, size), f.buf...) // readers may still be copying from the old one
	return true
}

// openWindow gives up keeping the body as a whole. Nobody can join any more.
func (f *fill) openWindow() {
	f.windowed = true
	if f.answer.plan.most > f.size {
		if f.upload = f.answer.plan.upload(); f.upload != nil {
			f.upload.Write(f.buf)
		}
	}
	window := f.t.h.opt.Collapse.Window
	if int64(cap(f.buf)) < window && f.t.reserve(window-f.held) {
		f.held = window
		f.buf = append(make([]byte, 0, window), f.buf...)
	}
	f.t.under.Add(1)
	go func() { // the table's lock comes before ours
		defer f.t.under.Done()
		f.t.remove(f)
	}()
}

// slowest returns how far the reader is that is furthest behind, and how far the first one before it: several may be at one place.
// Those who were left behind already, and may not know it yet, do not count.
func (f *fill) slowest() (last, next int64) {
	last, next = f.size, f.size
	for _, r := range f.readers {
		switch {
		case r.off < f.base:
		case r.off < last:
			last, next = r.off, last
		case r.off > last:
			next = min(next, r.off)
		}
	}
	return last, next
}

// trim drops from a windowed buffer what every reader has read; nothing while a waiter has yet to begin reading and still can.
func (f *fill) trim() {
	if len(f.readers) < f.waiters && f.base == 0 {
		return
	}
	last, _ := f.slowest()
	f.dropTo(last)
}

func (f *fill) dropTo(from int64) {
	if from <= f.base {
		return
	}
	n := copy(f.buf, f.buf[from-f.base:])
	f.buf, f.base = f.buf[:n], from
}

// progress tells awaitReaders that a reader has come, moved or left. Called with the lock held.
func (f *fill) progress() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// awaitReaders waits, without the lock, until another reader has moved. Who waits has read all there is, so with several readers this is
// time that the slowest takes from the others. It has Patience for that, anew with each window that it has read; then the body
// goes on without it. So does it without those who have not even begun.
func (f *fill) awaitReaders() {
	last, _ := f.slowest()
	if last-f.heldFrom >= int64(cap(f.buf)) {
		f.heldBack, f.heldFrom = 0, last
	}
	f.moved = make(chan struct{})
	f.awaitMove(f.moved, f.waiters > 1)

	patience := f.t.h.opt.Collapse.Patience
	if f.heldBack < patience || f.waiters < 2 || len(f.buf) < cap(f.buf) {
		return
	}
	from, next := f.slowest()
	if from == f.base {
		from = next
	}
	f.dropTo(from)
	f.heldBack, f.heldFrom = 0, from
	f.changed() // the one left behind may be waiting
}

// awaitMove lets go of the lock and waits for a reader's move; where there are others to think of, no longer than patience lasts.
func (f *fill) awaitMove(moved <-chan struct{}, several bool) {
	patience := f.t.h.opt.Collapse.Patience - f.heldBack
	f.mu.Unlock()
	defer f.mu.Lock()
	var over <-chan time.Time
	if several {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	began := time.Now()
	select {
	case <-moved:
	case <-over:
	case <-f.t.h.stop.Done():
	}
	if several {
		f.heldBack += time.Since(began) // only who pulls comes here
	}
}

// extend gives the readers n bytes more, and the right to pull to whoever comes first. Called with the lock held.
func (f *fill) extend(n int) {
	f.pulling = false
	f.buf = f.buf[:len(f.buf)+n]
	f.size += int64(n)
	f.changed()
}

// finish ends the body with the last n bytes: it stores what has ended well, then lets the readers have the end, and then leaves
// the table.
func (f *fill) finish(n int, err error) {
	res := f.answer.res
	if err == io.EOF {
		err = nil
		if res.ContentLength >= 0 && f.size+int64(n) != res.ContentLength {
			err = io.ErrUnexpectedEOF
		}
	}
	f.settle(n, err)

	f.mu.Lock()
	f.done, f.err = true, err
	if f.late != nil {
		f.late.Stop()
	}
	f.trailer = res.Trailer
	f.extend(n)
	f.mu.Unlock()
	_ = res.Body.Close()
	f.cancel()
	f.t.remove(f)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	if f.waiters == 0 {
		f.free()
	}
}

// settle stores a body that has ended well, or counts why it is not kept. Only who pulls writes the buffer, so it reads it unlocked.
func (f *fill) settle(n int, err error) {
	body := f.buf[:len(f.buf)+n]
	f.feed(body[len(f.buf):])
	switch {
	case f.unkept: // and counted
	case err != nil:
		f.endUpload()
		f.x.refused(policy.Truncated)
	case f.upload != nil:
		f.answer.plan.storeUploaded(f.upload)
	case f.windowed || int64(len(body)) > f.answer.plan.limit:
		f.x.refused(policy.TooLarge)
	default:
		f.answer.plan.store(body)
	}
}
