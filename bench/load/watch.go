package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"cacheproxy/bench/body"
)

// WatchSpec says what to look at while others send load.
type WatchSpec struct {
	Addr        string // as in Spec
	AllowRemote bool
	Host        string   // the field Host; empty = Addr
	Header      []string // more fields, each "Name: value"
	TLS         bool     // whose certificate is not verified: it is one that was made for the benchmark
	Rate        float64  // responses per second; 0 = 20
	MaxRequests int64    // ends it sooner than its context; 0 = no limit
	Resources   []body.Resource
	Fields      []string      // of responses, whose values are counted
	Timeout     time.Duration // for a response; 0 = 10 s
}

// Watched is what was seen.
type Watched struct {
	Checked  int64         `json:"checked"` // whole responses
	Wrong    int64         `json:"wrong"`   // of them, those of another status, length or body
	Statuses map[int]int64 `json:"statuses"`
	// Errors has wrong responses, and those that did not come; FirstErrors is the first of each kind.
	Errors      map[Failure]int64  `json:"errors"`
	FirstErrors map[Failure]string `json:"first_errors"`
	// Values has, by field as it was named, how often each value came; "" = there was no such field. Beyond 64 values it has OtherValues.
	Values map[string]map[string]int64 `json:"values"`
	Head   string                      `json:"head"` // of the last response
}

// OtherValues stands for values that are too many to count.
const (
	OtherValues = "(others)"
	maxValues   = 64
)

// watcher is a Watch.
type watcher struct {
	WatchSpec
	addr netip.AddrPort
	conn net.Conn // nil: none
	receiver
	in, out []byte
	suffix  []byte
	result  *Watched
}

// Watch asks for resources in turn, over one connection and slowly, until ctx is done, and checks every response. An error is that it could not begin.
func Watch(ctx context.Context, spec WatchSpec) (*Watched, error) {
	if len(spec.Resources) == 0 {
		return nil, errors.New("load: no resource to watch")
	}
	// What both have in common is checked as there.
	common, err := Spec{
		Addr: spec.Addr, Host: spec.Host, Header: spec.Header, Rate: spec.Rate, Timeout: spec.Timeout, MaxRequests: max(1, spec.MaxRequests),
		Patterns: []Pattern{{Kind: body.Hit}},
	}.prepare()
	if err != nil {
		return nil, err
	}
	spec.Timeout = common.Timeout
	if spec.Rate == 0 {
		spec.Rate = 20
	}
	w := &watcher{WatchSpec: spec, in: make([]byte, 64<<10), result: &Watched{
		Statuses: map[int]int64{}, Errors: map[Failure]int64{}, FirstErrors: map[Failure]string{}, Values: map[string]map[string]int64{},
	}}
	if w.addr, err = resolve(ctx, lookup, spec.Addr, spec.AllowRemote); err != nil {
		return nil, err
	}
	_, w.suffix, _ = requestParts(&common)
	w.onHead = w.sample
	w.run(ctx)
	return w.result, nil
}

func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / w.Rate))
	defer ticker.Stop()
	defer w.hangUp()
	for n := int64(0); w.MaxRequests == 0 || n < w.MaxRequests; n++ {
		resource := w.Resources[n%int64(len(w.Resources))]
		kind, err := w.exchange(ctx, resource)
		if err != nil && ctx.Err() != nil {
			return // it was cut short, which nobody is to blame for
		}
		if err != nil {
			if w.result.Errors[kind]++; w.result.Errors[kind] == 1 {
				w.result.FirstErrors[kind] = err.Error()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// exchange asks for a resource and judges the response.
func (w *watcher) exchange(ctx context.Context, resource body.Resource) (Failure, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	if w.conn == nil {
		if err := w.dial(ctx); err != nil {
			return FailConnect, err
		}
	}
	conn := w.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // else it waits longer
	err := w.receive(resource)
	if !stop() || err != nil || w.last {
		w.hangUp()
	}
	switch {
	case errors.Is(err, errHead), errors.Is(err, errChunk):
		return FailHead, err
	case err != nil && ctx.Err() != nil:
		return FailTimeout, fmt.Errorf("%w: %s", errTimeout, resource.Path())
	case err != nil:
		return FailRead, fmt.Errorf("load: watch %s: %w", resource.Path(), err)
	}
	w.result.Checked++
	w.result.Statuses[w.status]++
	kind, err := w.judge(resource, false)
	if err != nil {
		w.result.Wrong++
	}
	return kind, err
}

func (w *watcher) dial(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", w.addr.String())
	if err != nil {
		return fmt.Errorf("load: watch: %w", err)
	}
	if w.TLS {
		name, _, _ := net.SplitHostPort(w.Addr)
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"http/1.1"}})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // the first error is the one to tell
			return fmt.Errorf("load: watch: %w", err)
		}
		conn = secure
	}
	w.conn = conn
	return nil
}

func (w *watcher) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close() // nothing is expected there any more
		w.conn = nil
	}
}

// receive sends a request and takes its response.
func (w *watcher) receive(resource body.Resource) error {
	w.out = append(resource.AppendPath(append(w.out[:0], "GET "...)), w.suffix...)
	if _, err := w.conn.Write(w.out); err != nil {
		return err
	}
	w.begin(resource, true)
	for {
		n, err := w.conn.Read(w.in)
		used, done, errFeed := 0, false, error(nil)
		if n > 0 {
			used, done, errFeed = w.feed(w.in[:n])
		}
		switch {
		case errFeed != nil:
			return errFeed
		case done && used < n:
			return fmt.Errorf("%w: %.100q came after the response", errHead, w.in[used:n])
		case done:
			return nil
		case errors.Is(err, io.EOF):
			return w.end()
		case err != nil:
			return err
		}
	}
}

// sample notes what is sought of a head.
func (w *watcher) sample(head []byte) {
	w.result.Head = string(head)
	fields := http.Header{}
	for line := range strings.SplitSeq(string(head), crlf) {
		if name, value, found := strings.Cut(line, ":"); found {
			fields.Add(name, strings.TrimSpace(value))
		}
	}
	for _, name := range w.Fields {
		value := strings.Join(fields.Values(name), ", ")
		values := w.result.Values[name]
		if values == nil {
			values = map[string]int64{}
			w.result.Values[name] = values
		}
		if _, known := values[value]; !known && len(values) >= maxValues {
			value = OtherValues
		}
		values[value]++
	}
}
