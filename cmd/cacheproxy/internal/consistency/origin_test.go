//go:build consistency

package consistency

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// host is what all pages are asked for under, so that every replica knows them by the same URL.
const host = "shop.example"

// Pages are named /KIND/N. What is odd about a kind:
const (
	plain    = "plain"    // nothing
	constant = "constant" // its ETag never changes, so that the origin says of every version that it is still good
	slow     = "slow"     // its first byte comes late
	tagged   = "tagged"   // has tags and a group that only the response tells; as all others do
	behind   = "behind"   // may be served stale while it is validated
	large    = "large"    // 5 MiB, so that it lies in Redis in chunks
	bare     = "bare"     // has neither tags nor a group, so that nothing of it goes into the index; its ETag never changes
)

// origin serves pages with versions. A version is read when the request comes, so that a fetch that begins after a purge brings at least the
// version of that moment.
type origin struct {
	*httptest.Server
	asked atomic.Int64

	mu    sync.Mutex
	pages map[string]*atomic.Int64
	gates map[string]*gate
}

// gate holds one request at the origin, which has read the version.
type gate struct {
	arrived chan struct{}
	open    chan struct{}
}

func newOrigin(t *testing.T) *origin {
	o := &origin{pages: map[string]*atomic.Int64{}, gates: map[string]*gate{}}
	o.Server = httptest.NewServer(o)
	t.Cleanup(func() {
		o.mu.Lock()
		for _, g := range o.gates {
			g.letGo()
		}
		o.mu.Unlock()
		o.Close()
	})
	return o
}

// version is that of a page, at first 1.
func (o *origin) version(path string) *atomic.Int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.pages[path]
	if v == nil {
		v = new(atomic.Int64)
		v.Store(1)
		o.pages[path] = v
	}
	return v
}

// hold holds the next request for a page.
func (o *origin) hold(path string) *gate {
	g := &gate{make(chan struct{}), make(chan struct{})}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gates[path] = g
	return g
}

func (g *gate) letGo() { close(g.open) }

func (o *origin) gateOf(path string) *gate {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.gates[path]
	delete(o.gates, path)
	return g
}

// ServeHTTP implements http.Handler.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	path := r.URL.Path
	kind, _, _ := strings.Cut(path[1:], "/")
	version := o.version(path).Load()
	if g := o.gateOf(path); g != nil {
		close(g.arrived)
		<-g.open
	}
	if kind == slow {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
	}
	text := strconv.FormatInt(version, 10)
	name := strings.ReplaceAll(path[1:], "/", "-")
	h := w.Header()
	h.Set("Cache-Control", "max-age=7200")
	h.Set("Etag", `"`+text+`"`)
	if kind == constant || kind == bare {
		h.Set("Etag", `"constant"`)
	}
	h.Set("X-Valid", text)
	if kind != bare {
		h.Set("Surrogate-Key", "all-"+kind+" page-"+name)
		h.Set("Cache-Groups", `"group-`+name+`"`)
	}
	if r.Header.Get("If-None-Match") == h.Get("Etag") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := []byte(text)
	if kind == large {
		large := largeBodies.Get().(*[]byte)
		defer largeBodies.Put(large)
		body = *large
		fillLarge(body, version)
		h.Set("X-Sum", sum(body))
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Content-Type", "text/plain")
	_, _ = w.Write(body)
}

// A large body has its version at the begin of each block, so that no part of one can pass for that of another.
const (
	largeLen = 5 << 20
	blockLen = 4 << 10
)

var noise = func() []byte {
	b := make([]byte, largeLen)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// largeBodies are such bodies, of any version: the noise between the versions never changes.
var largeBodies = sync.Pool{New: func() any {
	b := bytes.Clone(noise)
	return &b
}}

func fillLarge(b []byte, version int64) {
	for at := 0; at < largeLen; at += blockLen {
		binary.BigEndian.PutUint64(b[at:], uint64(version))
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)) }
