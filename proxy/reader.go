package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cacheproxy/policy"
)

// readFrom makes this journey's own response out of the fill's: fields, trailers and body are its alone, and so are the
// preconditions and the range that its client asked for. The leader has the fields as they came; the others have those that
// are stored, as if they had come a moment later.
func (j *journey) readFrom(f *fill, a answer, leads bool, out *http.Request) *http.Response {
	j.told(a)
	r := &reader{f: f, j: j, res: f.head, out: out, end: -1}
	res := &r.res
	if !leads {
		j.outcome.Stored = false // the leader's response is the one that is stored
		res.Header = a.plan.header.Clone()
		res.Header["Age"] = []string{strconv.FormatInt(int64(a.plan.fresh.Age(j.h.opt.Now())/time.Second), 10)}
	}
	r.tag = res.Header.Get("Etag")
	res.Trailer = trailerKeys(f.head.Trailer)
	if j.notModified(res) {
		f.leave(j)
		return res
	}
	j.cutRange(res, r)
	r.attach()
	res.Body = r
	return res
}

// trailerKeys announces the trailers of t, whose values are not known before the body's end.
func trailerKeys(t http.Header) http.Header {
	if t == nil {
		return nil
	}
	keys := make(http.Header, len(t))
	for k := range t {
		keys[k] = nil
	}
	return keys
}

// notModified turns the response into a 304 where the client already has it.
func (j *journey) notModified(res *http.Response) bool {
	h := res.Header
	if policy.Precondition(j.rq, res.StatusCode, h.Get("Etag"), h.Get("Last-Modified"), h.Get("Date")) != policy.NotModified {
		return false
	}
	j.outcome.FwdStatus = res.StatusCode
	for _, name := range [...]string{"Content-Length", "Content-Encoding", "Content-Type", "Content-Language"} {
		delete(h, name)
	}
	policy.RemoveContentDigests(h)
	res.StatusCode, res.Status = http.StatusNotModified, "304 Not Modified"
	res.Body, res.ContentLength, res.Trailer = http.NoBody, 0, nil
	return true
}

// cutRange turns a whole response of known length into the one range that the client asked for. Several ranges, and a length that is
// not known, are answered with the whole.
func (j *journey) cutRange(res *http.Response, r *reader) {
	if res.StatusCode != http.StatusOK || res.ContentLength <= 0 || len(j.rq.Header["Range"]) == 0 {
		return
	}
	h := res.Header
	ranges, result := policy.SelectRange(j.rq, h.Get("Etag"), h.Get("Last-Modified"), h.Get("Date"), res.ContentLength, 1)
	if result != policy.RangePartial || len(ranges) != 1 {
		return
	}
	j.outcome.FwdStatus = res.StatusCode
	r.off, r.end = ranges[0].First, ranges[0].Last+1
	policy.RemoveContentDigests(h)
	h["Content-Range"] = []string{contentRange(ranges[0], res.ContentLength)}
	res.StatusCode, res.Status = http.StatusPartialContent, "206 Partial Content"
	res.ContentLength = r.end - r.off
	h["Content-Length"] = []string{strconv.FormatInt(res.ContentLength, 10)}
}

// reader is one client's body out of a fill. It is read in the goroutine that writes to the client, so when it has caught up
// with the fill it flushes before it waits: the client has every byte that has come.
type reader struct {
	f     *fill
	j     *journey
	res   http.Response // whose body it is; its trailers are filled in at the end
	tag   string        // its validator
	out   *http.Request // its own, which a fill sends only for its leader
	off   int64
	end   int64         // where its range ends; -1 = at the end of the body
	wrote bool          // since the last flush
	gone  bool          // it has left the fill
	alone io.ReadCloser // the rest, fetched for this client when the fill went on without it
}

// errLeftBehind ends a client that read too slowly from a body that could be neither stored nor fetched on from where it was.
var errLeftBehind = errors.New("proxy: the client read too slowly, and the rest of the response cannot be fetched for it alone")

func (r *reader) attach() {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.readers = append(r.f.readers, r)
	r.f.progress()
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	defer func() { r.j.cut(err) }()
	for r.alone == nil {
		n, wait, err := r.next(p)
		if errors.Is(err, errLeftBehind) {
			if r.leave(); !r.goOn() {
				return 0, err
			}
			break
		}
		if n > 0 || err != nil {
			r.wrote = r.res.ContentLength >= 0 // else ReverseProxy flushes each write, and another goroutine of its own may do so
			return n, err
		}
		if r.wrote {
			flush(r.j.w)
			r.wrote = false
		}
		if wait == nil {
			r.pull()
			continue
		}
		select {
		case <-wait:
		case <-r.j.r.Context().Done():
			return 0, context.Cause(r.j.r.Context())
		}
	}
	return r.alone.Read(p)
}

// next copies what the fill has, or says how it ended. Where there is nothing yet, it returns the channel to wait on, or none: then
// this reader is the one to pull.
func (r *reader) next(p []byte) (n int, wait <-chan struct{}, err error) {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.gone {
		return 0, nil, errLeft
	}
	if r.end >= 0 && r.off >= r.end {
		return 0, nil, io.EOF
	}
	if r.off < f.base {
		return 0, nil, errLeftBehind
	}
	if have := f.buf[min(r.off-f.base, int64(len(f.buf))):]; len(have) > 0 {
		if r.end >= 0 {
			have = have[:min(int64(len(have)), r.end-r.off)]
		}
		n = copy(p, have)
		r.off += int64(n)
		f.progress()
		return n, nil, nil
	}
	switch {
	case !f.done && f.pulling:
		return 0, f.changes(), nil
	case !f.done:
		f.pulling = true
		return 0, nil, nil
	case f.err != nil:
		return 0, nil, f.err
	}
	for k, v := range f.trailer {
		if r.res.Trailer == nil {
			r.res.Trailer = make(http.Header)
		}
		r.res.Trailer[k] = v
	}
	return 0, nil, io.EOF
}

// goOn fetches the rest for this client alone, where a strong validator says that it is the rest of the same representation. It
// reports whether there is one to read.
func (r *reader) goOn() bool {
	if !isStrong(r.tag) {
		return false
	}
	out := r.out.Clone(r.j.r.Context())
	policy.ClearConditionals(out.Header)
	last := ""
	if r.end >= 0 {
		last = strconv.FormatInt(r.end-1, 10)
	}
	out.Header["Range"] = []string{"bytes=" + strconv.FormatInt(r.off, 10) + "-" + last}
	out.Header["If-Range"] = []string{r.tag}
	res, err := r.f.x.next.RoundTrip(out)
	if err != nil {
		return false
	}
	first, end, total, ok := policy.ParseContentRange(res.Header.Get("Content-Range"))
	whole := end == r.end-1 || r.end < 0 && end == total-1
	if res.StatusCode != http.StatusPartialContent || !ok || first != r.off || !whole || res.Header.Get("Etag") != r.tag {
		_ = res.Body.Close()
		return false
	}
	r.alone = &exactly{res.Body, end - first + 1}
	return true
}

// exactly is a body of so many bytes: one that ends before is not taken for the whole.
type exactly struct {
	io.ReadCloser
	left int64
}

func (b *exactly) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); err == io.EOF && b.left != 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// pull reads on from upstream, for all. The client may leave meanwhile; then it is counted out at once, so that a read which nobody
// wants is ended, and the reader hands over after it.
func (r *reader) pull() {
	stop := context.AfterFunc(r.j.r.Context(), r.leave)
	r.f.pull()
	if !stop() {
		r.f.handOver()
	}
}

// leave takes the reader out of the fill, once.
func (r *reader) leave() {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.gone {
		return
	}
	r.gone = true
	if i := slices.Index(f.readers, r); i >= 0 {
		f.readers = slices.Delete(f.readers, i, i+1)
	}
	f.countOut(r.j)
}

// Close implements io.Closer: the journey leaves the fill.
func (r *reader) Close() error {
	r.leave()
	if r.alone != nil {
		return r.alone.Close()
	}
	return nil
}

// owned is a body whose request is cancelled when it is closed.
type owned struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (o *owned) Close() error {
	defer o.cancel()
	return o.ReadCloser.Close()
}
