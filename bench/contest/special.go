package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"cacheproxy/bench/body"
)

// lookers is a client on one connection, of HTTP/1.1 or HTTP/2.
func lookers(http2 bool) *http.Client {
	t := &http.Transport{DisableCompression: true, MaxConnsPerHost: 1, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!http2)
	t.Protocols.SetHTTP2(http2)
	return &http.Client{Transport: t, Timeout: 10 * time.Second}
}

// headOf is the head of a response, its fields in the order of the alphabet.
func headOf(r *http.Response) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\r\n", r.Proto, r.Status)
	h := r.Header.Clone()
	if r.ContentLength >= 0 {
		h.Set("Content-Length", fmt.Sprint(r.ContentLength))
	}
	_ = h.Write(&b) // a buffer takes all
	return b.String()
}

// stampede has very many ask at once for what nobody has asked for yet. What counts is how many of them reach the upstream.
func (c *contest) stampede(ctx context.Context, sc *scenario, e *entry) (*round, error) {
	s := c.spec(sc, e, 0)
	s.Patterns = s.Patterns[:1]
	s.Patterns[0].Kind, s.Patterns[0].FirstID, s.Patterns[0].Keys = body.Slow, c.lab.fresh(1), 1
	before, err := c.read(ctx, e, true)
	if err != nil {
		return nil, err
	}
	gauged := c.gauge.watch()
	said, err := loadgen{c.lab.loadgen, s}.ask(ctx, c.lab.rest, c.lab.memory, "stampede")
	pace := gauged()
	if err != nil {
		return nil, err
	}
	time.Sleep(settling(sc, e))
	after, err := c.read(ctx, e, false)
	if err != nil {
		return nil, err
	}
	sent, err := runOf(said)
	if err != nil {
		return nil, err
	}
	one := roundOf(sent, before, after)
	one.Disturbed, one.Pace = c.lab.disturbed(sent, before, after), pace
	one.Upstream = after.upstream.Slow - before.upstream.Slow
	one.Checked = said.Checked
	if one.Memory, err = resident(e.running.pids()); err != nil {
		return nil, err
	}
	one.share(sent.Requests)
	if n := said.Failed(); n > 0 {
		one.Void = fmt.Sprintf("%d of %d requests failed: %v", n, sc.connections, said.FirstErrors)
	}
	return one, nil
}

// restart stops an entry and starts it again, cold (with nothing of what it had) or warm (with what its features let it keep), and has it asked at
// once. The time until its first answer is in Start, and what it asked its upstream for in Upstream.
func (c *contest) restart(ctx context.Context, st *stage, sc *scenario, e *entry) (*round, error) {
	warm := e.s.With[surviving]
	if warm {
		if err := c.fill(ctx, sc, e); err != nil {
			return nil, err
		}
		time.Sleep(500 * time.Millisecond) // what is stored behind the answers has been
	}
	stopped := e.running.stop() // if not well, it is started again for the next round
	e.running = nil
	if !warm {
		if err := errors.Join(os.RemoveAll(e.s.CacheDir), os.Mkdir(e.s.CacheDir, 0o777), os.Chmod(e.s.CacheDir, 0o777)); err != nil {
			return nil, err
		}
	}
	begun := time.Now()
	if err := c.lab.start(ctx, e); err != nil {
		return nil, err
	}
	if err := e.ready(ctx, e.url(sc.resource(), false)); err != nil {
		return nil, err
	}
	took := time.Since(begun)
	if stopped != nil {
		return nil, stopped
	}
	one, err := c.sample(ctx, st, sc, e, &row{}, loadgen{c.lab.loadgen, c.spec(sc, e, 0)})
	if err != nil {
		return nil, err
	}
	one.Start = float64(took.Microseconds()) / 1000
	return one, nil
}
