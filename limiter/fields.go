package limiter

import (
	"net/http"
	"strconv"
	"time"
)

// fields is what a limit says of itself in responses, made ready: RateLimit-Policy and RateLimit are lists with a member for each limit
// (draft-ietf-httpapi-ratelimit-headers-11), X-RateLimit-* are of the limit of which the least is left.
type fields struct {
	draft, x bool
	policy   string // "name";q=100;w=3600
	member   string // "name";r=
	quota    string
}

func newFields(m *limit) fields {
	f := fields{quota: strconv.FormatInt(min(m.spec.Limit, maxInteger), 10)}
	for _, name := range m.spec.Fields {
		f.draft = f.draft || name == RateLimit
		f.x = f.x || name == XRateLimit
	}
	if m.spec.Fields == nil {
		f.draft = true
	}
	window := max(1, int64((m.spec.Window+time.Second-1)/time.Second)) // whole seconds, from 1
	f.policy = `"` + m.spec.Name + `";q=` + f.quota + ";w=" + strconv.FormatInt(window, 10)
	f.member = `"` + m.spec.Name + `";r=`
	return f
}

// SetFields tells the client where it stands, in fields of a response. It does nothing for limits that are shadows, or from which the client
// is exempt. It costs two allocations for each pair of fields.
func (r *Reservation) SetFields(h http.Header) {
	var text [128]byte
	var draft, x int
	var members, policy = text[:0], ""
	tightest := -1
	for i := range r.n {
		c := &r.claims[i]
		if c.limit.spec.Shadow || c.verdict == undecided || c.verdict == exempted || c.verdict == unavailable || c.free {
			continue
		}
		f := &c.limit.fields
		if f.draft {
			if draft++; draft > 1 {
				members, policy = append(members, ", "...), policy+", "+f.policy
			} else {
				policy = f.policy
			}
			members = strconv.AppendInt(append(members, f.member...), c.remaining(), 10)
			members = strconv.AppendInt(append(members, ";t="...), seconds(c.told()), 10)
		}
		if f.x {
			if x++; tightest < 0 || c.tighter(&r.claims[tightest]) {
				tightest = i
			}
		}
	}
	if draft > 0 {
		lines := []string{policy, string(members)}
		h["Ratelimit-Policy"], h["Ratelimit"] = lines[0:1:1], lines[1:2:2]
	}
	if tightest >= 0 {
		c := &r.claims[tightest]
		lines := []string{c.limit.fields.quota, strconv.FormatInt(c.remaining(), 10), strconv.FormatInt(seconds(c.told()), 10)}
		h["X-Ratelimit-Limit"], h["X-Ratelimit-Remaining"], h["X-Ratelimit-Reset"] = lines[0:1:1], lines[1:2:2], lines[2:3:3]
	}
}

// remaining is how many tokens a client is told that it has.
func (c *claim) remaining() int64 { return min(max(0, c.left), maxInteger) }

// maxInteger is the largest integer that a structured field can have (RFC 9651 section 3.3.1).
const maxInteger = 999_999_999_999_999

// told is what a client is told as the time to wait: until it is admitted again where it is refused, and else until it has all of its limit.
func (c *claim) told() int64 {
	if c.verdict == denied {
		return c.retry
	}
	return c.reset
}

// tighter reports whether less of c's limit is left than of o's, in proportion.
func (c *claim) tighter(o *claim) bool {
	return float64(c.remaining())/float64(c.limit.burst) < float64(o.remaining())/float64(o.limit.burst)
}

// seconds rounds microseconds up, so that a client that waits so long is not too early.
func seconds(us int64) int64 { return max(0, ceil(us, int64(time.Second/time.Microsecond))) }
