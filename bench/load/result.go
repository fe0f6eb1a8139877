package load

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Failure is a way in which a request fails.
type Failure string

const (
	FailConnect Failure = "connect" // there is no connection
	FailRead    Failure = "read"    // the connection was closed, or broke, before the response was whole
	FailTimeout Failure = "timeout" // the response was not whole in time
	FailHead    Failure = "head"    // it is not HTTP
	FailStatus  Failure = "status"  // it is another one than 200, or than 304 where that is right
	FailLength  Failure = "length"  // the body is longer or shorter
	FailBody    Failure = "body"    // it has other bytes
)

// Result is what became of a Spec. Its times are in nanoseconds.
type Result struct {
	Spec Spec `json:"spec"`
	// Requests had a whole response, right or not. It, and what follows to Bytes, leaves out what was due in the warm-up.
	Requests  int64         `json:"requests"`
	PerSecond float64       `json:"per_second"`
	Elapsed   time.Duration `json:"elapsed_ns"` // after the warm-up
	Statuses  map[int]int64 `json:"statuses"`
	Bytes     int64         `json:"bytes"`   // of bodies
	Checked   int64         `json:"checked"` // bodies that were compared
	// Errors counts failures, in the warm-up too, and FirstErrors is the first of each.
	Errors      map[Failure]int64  `json:"errors"`
	FirstErrors map[Failure]string `json:"first_errors"`
	// Reconnects is how often a connection was made again that the server had closed between two requests, which it may do.
	Reconnects int64 `json:"reconnects"`
	// Unanswered is how many requests had been sent at the end and were not answered.
	Unanswered int64 `json:"unanswered"`
	// Latency is from when a request was due, which in a closed loop is when it was sent, to the end of its response. It has the age so far of those
	// that timed out, and in an open loop of those that were unanswered or not even sent at the end.
	Latency  Latency         `json:"latency"`
	Patterns []PatternResult `json:"patterns"` // as in Spec
	Open     *OpenLoop       `json:"open,omitempty"`
	// CPU is what this process used, so it is what sending and receiving cost.
	CPU        time.Duration `json:"cpu_ns"`
	CPURequest time.Duration `json:"cpu_per_request_ns"`
}

// PatternResult is what became of the requests of one pattern.
type PatternResult struct {
	Requests int64   `json:"requests"`
	Latency  Latency `json:"latency"`
}

// OpenLoop is what an open loop knows besides.
type OpenLoop struct {
	Scheduled int64 `json:"scheduled"` // due after the warm-up and before the end
	Sent      int64 `json:"sent"`
	// Backlog had not been sent at the end, for want of a connection that was free; LateAtEnd is how long the first of them had waited.
	Backlog   int64         `json:"backlog"`
	LateAtEnd time.Duration `json:"late_at_end_ns"`
	// Oversleep is how late requests were sent although a connection was free. It is part of Latency and the fault of this process, not of the server.
	Oversleep Latency `json:"oversleep"`
}

// Latency is a distribution of durations, to three digits.
type Latency struct {
	Count int64         `json:"count"`
	Min   time.Duration `json:"min_ns"`
	Mean  time.Duration `json:"mean_ns"`
	P50   time.Duration `json:"p50_ns"`
	P75   time.Duration `json:"p75_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
	// Quantiles draws it: from the least to the greatest, more densely the rarer.
	Quantiles []Quantile `json:"quantiles,omitempty"`
	// HDR is the histogram as HdrHistogram writes it (V2, compressed, base64), to be merged with others: Histogram.
	HDR string `json:"hdr,omitempty"`
}

// Quantile says that the fraction Q of all are at most Value.
type Quantile struct {
	Q     float64       `json:"q"`
	Value time.Duration `json:"ns"`
}

// longest is what a histogram has room for; longer is counted as it.
const longest = time.Hour

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(longest), 3) }

// record counts a duration.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, 0), longest))) // it is in the range
}

// quantiles is how many are drawn.
const quantiles = 200

// summarize tells of a histogram what is in a Latency; whole: with its quantiles and itself.
func summarize(h *hdrhistogram.Histogram, whole bool) (l Latency, err error) {
	l.Count = h.TotalCount()
	if l.Count == 0 {
		return l, nil
	}
	l.Min, l.Mean, l.Max = time.Duration(h.Min()), time.Duration(h.Mean()), time.Duration(h.Max())
	at := func(q float64) time.Duration { return min(time.Duration(h.ValueAtPercentile(100*q)), l.Max) }
	l.P50, l.P75, l.P90, l.P99, l.P999 = at(0.5), at(0.75), at(0.9), at(0.99), at(0.999)
	if !whole {
		return l, nil
	}
	// Evenly in the number of nines: up to where one request is all that is beyond, and then the last.
	step := math.Log10(float64(max(l.Count, 2))) / (quantiles - 2)
	for i := range quantiles - 1 {
		q := 1 - math.Pow(10, -float64(i)*step)
		l.Quantiles = append(l.Quantiles, Quantile{q, at(q)})
	}
	l.Quantiles[0].Value = l.Min
	l.Quantiles = append(l.Quantiles, Quantile{1, l.Max})
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return l, fmt.Errorf("load: histogram: %w", err)
	}
	l.HDR = string(text)
	return l, nil
}

// Histogram is what HDR has, in nanoseconds; nil when there is none.
func (l *Latency) Histogram() (*hdrhistogram.Histogram, error) {
	if l.HDR == "" {
		return nil, nil
	}
	h, err := hdrhistogram.Decode([]byte(l.HDR))
	if err != nil {
		return nil, fmt.Errorf("load: histogram: %w", err)
	}
	return h, nil
}

// Failed is how many requests failed.
func (r *Result) Failed() (n int64) {
	for _, one := range r.Errors {
		n += one
	}
	return n
}

// fail counts a failure.
func (r *Result) fail(kind Failure, err error) {
	if r.Errors[kind]++; r.Errors[kind] == 1 {
		r.FirstErrors[kind] = err.Error()
	}
}

// String is the result in a few lines, for people.
func (r *Result) String() string {
	var b strings.Builder
	l := &r.Latency
	fmt.Fprintf(&b, "%d requests in %s: %.0f/s, %d bytes, statuses %v, %d checked\n", r.Requests, r.Elapsed.Round(time.Millisecond), r.PerSecond, r.Bytes, r.Statuses,
		r.Checked)
	fmt.Fprintf(&b, "latency: mean %s, p50 %s, p75 %s, p90 %s, p99 %s, p99.9 %s, max %s\n", l.Mean, l.P50, l.P75, l.P90, l.P99, l.P999, l.Max)
	if o := r.Open; o != nil {
		fmt.Fprintf(&b, "open loop: %d scheduled, %d sent, %d not sent, the first of them %s late; oversleep p99 %s, max %s\n", o.Scheduled, o.Sent, o.Backlog,
			o.LateAtEnd, o.Oversleep.P99, o.Oversleep.Max)
	}
	fmt.Fprintf(&b, "%d unanswered, %d reconnects, CPU %s: %s per request\n", r.Unanswered, r.Reconnects, r.CPU, r.CPURequest)
	for kind, n := range r.Errors {
		fmt.Fprintf(&b, "%d errors: %s: %s\n", n, kind, r.FirstErrors[kind])
	}
	return b.String()
}
