package store

import (
	"net/http"
	"time"

	"cacheproxy/policy"
)

// What the fetcher of a miss needs to know of the store before and while it fetches.

// Current reports whether url has not been forgotten since the stamp: whether a fetch for a lookup that began then may still answer
// requests that come now. It may say false too often, never true too often.
func (s *Store) Current(url string, stamp Stamp) bool {
	return !s.forgets.since(url, stamp.moment) && current(s.near.table, stamp) && !s.near.shut()
}

// TakesUploads reports whether there is a Redis, so that bodies larger than MaxBody can be stored by Upload.
func (s *Store) TakesUploads() bool { return s.far != nil }

// CanUpload reports whether Upload would begin now: a Redis is there, answers, and takes writes.
func (s *Store) CanUpload() bool {
	r := s.far
	return r != nil && !r.closed.Load() && r.breaker.Allow() && r.saver.paused(time.Now()) == policy.None
}

// MaxBody is the size of the largest body, in bytes, that can be part of an entry. Larger ones need not be collected.
func (s *Store) MaxBody() int64 {
	if s.far != nil {
		return max(s.near.maxObject, maxRedisBody)
	}
	return s.near.maxObject
}

// Selects reports whether a request with these extras of its key and these fields, as they would be forwarded, selects the entry
// (RFC 9111 section 4.1). That the URL is the same is for the caller to know.
func (e *Entry) Selects(extras string, h http.Header) bool {
	var buffer [256]byte
	return e.selects(extras, e.Nomination().AppendSelection(buffer[:0], h))
}

// Nominated returns what the newest stored response of the URL nominates by Vary as far as this process knows, "" where it does not: which
// requests are worth answering with one fetch.
func (s *Store) Nominated(url string) policy.Nomination {
	if r, ok := s.near.resourceQuietly(url); ok { // the lookup that led here has counted as a use
		return r.at(0).Nomination()
	}
	if s.far != nil {
		return s.far.hints.get(url) // as last saved here, or seen in Redis
	}
	return ""
}
