// Package body makes the responses that the benchmarks are about, the same ones in every process, so that whoever receives one can tell
// whether it is right without having seen it before.
//
// A path says what its response is: /KIND/SIZE/ID, such as /hit/1024/17. SIZE is the length of the body in bytes, ID tells bodies of one size
// apart, KIND says what a cache may do with it. A body begins with its path and a line feed, as far as there is room, and goes on with bytes that do not
// compress, taken from one block at a place that ID and SIZE choose; so bodies cost their origin nothing, and no two of them are alike.
package body

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Kind is what a cache may do with a response.
type Kind string

const (
	Hit  Kind = "hit"  // keep it for a day
	Pass Kind = "pass" // not keep it
	Slow Kind = "slow" // keep it for a day; the origin takes its time
)

// CacheControl is the value of the field Cache-Control that the origin sends.
func (k Kind) CacheControl() string {
	if k == Pass {
		return "no-store"
	}
	return "public, max-age=86400"
}

// MaxSize is the longest body, in bytes.
const MaxSize = 4 << 20

// Modified is the value of the field Last-Modified of every response.
const Modified = "Sun, 01 Nov 2026 00:00:00 GMT"

// Resource is what a path names.
type Resource struct {
	Kind Kind
	Size int    // of the body, in bytes
	ID   uint64 // which of that size
}

// Parse reads a path, without query.
func Parse(path string) (Resource, error) {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	size, id, found := strings.Cut(rest, "/")
	r := Resource{Kind: Kind(kind)}
	if !found || !strings.HasPrefix(path, "/") {
		return r, fmt.Errorf("body: %.100q is not /KIND/SIZE/ID", path)
	}
	switch r.Kind {
	case Hit, Pass, Slow:
	default:
		return r, fmt.Errorf("body: no kind %.100q, only %s, %s and %s", kind, Hit, Pass, Slow)
	}
	var errSize, errID error
	r.Size, errSize = strconv.Atoi(size)
	r.ID, errID = strconv.ParseUint(id, 10, 64)
	if err := errors.Join(errSize, errID); err != nil {
		return r, fmt.Errorf("body: %.100q: %w", path, err)
	}
	if r.Size < 0 || r.Size > MaxSize {
		return r, fmt.Errorf("body: %.100q: a size is from 0 to %d", path, MaxSize)
	}
	return r, nil
}

// Path names the resource.
func (r Resource) Path() string { return string(r.AppendPath(nil)) }

// AppendPath appends the path to b.
func (r Resource) AppendPath(b []byte) []byte {
	b = append(append(append(b, '/'), r.Kind...), '/')
	b = append(strconv.AppendInt(b, int64(r.Size), 10), '/')
	return strconv.AppendUint(b, r.ID, 10)
}

// ETag is the entity tag, with its quotes.
func (r Resource) ETag() string { return string(r.AppendETag(nil)) }

// AppendETag appends the entity tag to b.
func (r Resource) AppendETag(b []byte) []byte {
	b = append(strconv.AppendInt(append(b, '"'), int64(r.Size), 10), '-')
	return append(strconv.AppendUint(b, r.ID, 10), '"')
}

// AppendBody appends the body to b.
func (r Resource) AppendBody(b []byte) []byte { return append(r.AppendFirst(b), r.Rest()...) }

// AppendFirst appends what the body begins with, the path and a line feed, as far as there is room; the body goes on with Rest.
func (r Resource) AppendFirst(b []byte) []byte {
	end := len(b) + r.Size
	b = append(r.AppendPath(b), '\n')
	return b[:min(len(b), end)]
}

// Rest is what comes after the first line of the body. It is a part of the block that all bodies share: nobody may write to it.
func (r Resource) Rest() []byte {
	var room [64]byte // for the longest path
	from := spread(r.ID, r.Size) % (places + 1)
	return block[from:][:r.Size-len(r.AppendFirst(room[:0]))]
}

// places is where a body may begin in the block.
const places = 1 << 20

var block = func() []byte {
	b := make([]byte, places+MaxSize)
	_, _ = rand.NewChaCha8([32]byte{1: 'b', 2: 'o', 3: 'd', 4: 'y'}).Read(b) // it never fails
	return b
}()

// spread is a number that depends on every bit of both (the finisher of splitmix64).
func spread(id uint64, size int) uint64 {
	x := id*0x9e3779b97f4a7c15 + uint64(size)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
