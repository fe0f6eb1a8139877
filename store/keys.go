package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"cacheproxy/policy"
)

// How Redis keys are made.
//
//	P:v:{URL}            the root of a URL, a hash: variant -> FILL, expiry, response time, nomination (see root.go)
//	P:e:{URL}:VARIANT    an entry, a string (see encoding.go)
//	P:b:{URL}:VARIANT:FILL:N   a chunk of a large body, a string (see chunks.go)
//	P:t:{TAG}, P:g:{ORIGIN:NAME}, P:i:{N}   the index of tags and groups (see index.go)
//
// P is the prefix. URL is the cache URL, readable, with `{`, `}` and control bytes percent-encoded, so that the braces
// around it make it the Cluster hash tag: all keys of one resource lie in one slot. An escape that the URL already has and
// that could be taken for one of ours (%7B, %00 ...) has its percent sign encoded too, so that no two URLs share a key.
// What is then longer than 1 KiB is cut there and followed by `~` and 32 hexadecimal digits of its hash; being longer than
// 1 KiB, it is no other URL's key.
//
// VARIANT is 32 hexadecimal digits of a hash over all that distinguishes the responses of one URL: the values named by the
// rule's key, the nomination, the selection. Hashes are SHA-256 cut to 128 bits; nothing trusts them, since the
// full key travels in the value and is compared on each read.

const (
	maxKeyURL = 1024 // bytes of the encoded URL in a key
	hashLen   = 16   // bytes of a hash: 128 bits
	upperHex  = "0123456789ABCDEF"
)

// checkPrefix refuses a prefix that would move the hash tag, read as a pattern in SCAN MATCH or an ACL, or break a line.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return fmt.Errorf("store: empty prefix: name the service in `redis.prefix`")
	}
	for i := range len(prefix) {
		if c := prefix[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`{}*?[]^\`, c) >= 0 {
			return fmt.Errorf("store: prefix %q has %q: no spaces, braces or glob characters in `redis.prefix`", prefix, c)
		}
	}
	return nil
}

// appendKeyURL appends the encoded URL as it stands between the braces of a key.
func appendKeyURL(dst []byte, url string) []byte {
	start := len(dst)
	for i := range len(url) {
		switch c := url[i]; {
		case isEncoded(c), c == '%' && isOurEscape(url[i+1:]):
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	if len(dst)-start <= maxKeyURL {
		return dst
	}
	sum := sha256.Sum256(dst[start:])
	dst = append(dst[:start+maxKeyURL], '~')
	return hex.AppendEncode(dst, sum[:hashLen])
}

// isEncoded reports whether a byte never stands in a key as it is.
func isEncoded(c byte) bool { return c < ' ' || c == 0x7f || c == '{' || c == '}' }

// isOurEscape reports whether rest starts with two digits that, after a percent sign, are an escape that appendKeyURL writes.
func isOurEscape(rest string) bool {
	if len(rest) < 2 {
		return false
	}
	high, low := strings.IndexByte(upperHex, rest[0]), strings.IndexByte(upperHex, rest[1])
	if high < 0 || low < 0 {
		return false
	}
	c := byte(high<<4 | low)
	return isEncoded(c) || c == '%'
}

// keyspace makes the keys of one prefix.
type keyspace struct{ root, entry, chunk string } // "P:v:{", "P:e:{" and "P:b:{"

func newKeyspace(prefix string) keyspace {
	return keyspace{root: prefix + ":v:{", entry: prefix + ":e:{", chunk: prefix + ":b:{"}
}

// resourceKeys are the keys of one URL.
type resourceKeys struct {
	root  string // P:v:{URL}
	space keyspace
}

func (k keyspace) of(url string) resourceKeys {
	var buffer [512]byte
	root := append(appendKeyURL(append(buffer[:0], k.root...), url), '}')
	return resourceKeys{root: string(root), space: k}
}

// entryKey is P:e:{URL}:VARIANT.
func (r resourceKeys) entryKey(variant string) string {
	return r.space.entry + r.root[len(r.space.root):] + ":" + variant
}

// variantOf hashes what distinguishes one response of a URL from the others.
func variantOf(extras string, nomination policy.Nomination, selection []byte) string {
	buf := make([]byte, 0, 512)
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(extras)))
	buf = append(buf, extras...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(nomination)))
	buf = append(buf, nomination...)
	buf = append(buf, selection...)
	sum := sha256.Sum256(buf)
	return hex.EncodeToString(sum[:hashLen])
}

// variant names the entry among the responses of its URL.
func (e *Entry) variant() string {
	return variantOf(e.Key().Extras, e.Nomination(), e.Selection())
}
