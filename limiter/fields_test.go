package limiter

import (
	"sync/atomic"
	"testing"
	"time"
)

// What clients are told.
func TestFields(t *testing.T) {
	var later atomic.Int64
	began := time.Now()
	r := newReplica(t, "", func(o *Options) { o.Now = func() time.Time { return began.Add(time.Duration(later.Load())) } },
		Spec{Name: "minute", Limit: 3, Window: time.Minute, Fields: []string{RateLimit, XRateLimit}},
		Spec{Name: "bucket", Limit: 60, Window: time.Minute, Burst: 2, Algorithm: GCRA, Fields: []string{XRateLimit}},
		Spec{Name: "hour", Limit: 100, Window: time.Hour},
		Spec{Name: "secret", Limit: 100, Window: time.Hour, Fields: []string{}},
	)
	fields := func(member, quota, remaining, reset string) map[string]string {
		return map[string]string{
			"Ratelimit-Policy": `"minute";q=3;w=60, "hour";q=100;w=3600`, "Ratelimit": member,
			"X-Ratelimit-Limit": quota, "X-Ratelimit-Remaining": remaining, "X-Ratelimit-Reset": reset,
		}
	}
	wantFields(t, r.reserve(t, from("192.0.2.7")), fields(`"minute";r=2;t=60, "hour";r=99;t=3600`, "60", "1", "1"))
	later.Add(int64(500 * time.Millisecond))
	wantFields(t, r.reserve(t, from("192.0.2.7")), fields(`"minute";r=1;t=60, "hour";r=98;t=3600`, "60", "0", "2"))
	refused := r.reserve(t, from("192.0.2.7"))
	if !refused.Refused() || refused.Limit() != "bucket" || refused.RetryAfter() != 500*time.Millisecond || refused.Status() != 429 {
		t.Errorf("refused %v by %q for %s with %d", refused.Refused(), refused.Limit(), refused.RetryAfter(), refused.Status())
	}
	later.Add(int64(10 * time.Second))
	wantFields(t, r.reserve(t, from("192.0.2.7")), fields(`"minute";r=0;t=50, "hour";r=97;t=3590`, "3", "0", "50"))
	refused = r.reserve(t, from("192.0.2.7"))
	if refused.Limit() != "minute" || refused.RetryAfter() != 49500*time.Millisecond {
		t.Errorf("refused by %q for %s", refused.Limit(), refused.RetryAfter())
	}
}
