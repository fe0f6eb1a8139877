// Command origin is a server for benchmarks (package serve): the origin behind every proxy, or one of the floors that they are held against.
//
// It listens on loopback alone, prints http://ADDRESS once it does, and ends at SIGTERM. Run it in the bench directory: go run ./origin -listen
// 127.0.0.1:8001 -slow 1s; then http://127.0.0.1:8001/hit/1024/17 is a body of 1024 bytes, and /counts says how many were asked for.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"cacheproxy/bench/body"
	"cacheproxy/bench/serve"
)

// options are what it is told.
type options struct {
	listen, as           string
	slow                 time.Duration
	size                 int
	notModified          bool
	listenTLS, cert, key string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "the loopback `ADDRESS:PORT` to listen on; 0 = any free port")
	flag.StringVar(&o.as, "as", "origin", "what to be: origin, floor (fixed bytes, in one thread), nethttp (fixed bytes by net/http)")
	flag.DurationVar(&o.slow, "slow", time.Second, "with origin: how long a resource of kind slow takes")
	flag.IntVar(&o.size, "size", 1024, "with floor: it answers with /hit/SIZE/0, in `BYTES`")
	flag.BoolVar(&o.notModified, "not-modified", false, "with floor: it answers with 304 to who asks with If-None-Match")
	flag.StringVar(&o.listenTLS, "listen-tls", "", "with nethttp: another `ADDRESS:PORT`, for TLS and HTTP/2; empty = none")
	flag.StringVar(&o.cert, "cert", "", "with -listen-tls: a certificate, a `FILE` in PEM")
	flag.StringVar(&o.key, "key", "", "with -listen-tls: its key, a `FILE` in PEM")
	flag.Parse()
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		log.Fatal("origin: ", err)
	}
}

// server is one of package serve.
type server interface {
	Serve(context.Context, net.Listener) error
}

func (o *options) run(ctx context.Context) error {
	if o.size < 0 || o.size > body.MaxSize {
		return fmt.Errorf("-size is from 0 to %d", body.MaxSize)
	}
	var s server
	switch o.as {
	case "origin":
		s = &serve.Origin{Slow: o.slow}
	case "floor":
		s = &serve.Floor{Size: o.size, NotModified: o.notModified, Alone: true}
	case "nethttp":
		s = &serve.NetHTTP{}
	default:
		return fmt.Errorf("-as %q: it is origin, floor or nethttp", o.as)
	}
	l, err := listen(o.listen)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	if o.listenTLS == "" {
		return s.Serve(ctx, l)
	}
	n, is := s.(*serve.NetHTTP)
	if !is {
		return fmt.Errorf("-listen-tls is for nethttp, not for %s", o.as)
	}
	tls, err := listen(o.listenTLS)
	if err != nil {
		return err
	}
	fmt.Printf("https://%s\n", tls.Addr())
	both, ctx := errgroup.WithContext(ctx) // the end of the one is that of the other
	both.Go(func() error { return n.Serve(ctx, l) })
	both.Go(func() error { return n.ServeTLS(ctx, tls, o.cert, o.key) })
	return both.Wait()
}

func listen(at string) (net.Listener, error) {
	address, err := netip.ParseAddrPort(at)
	if err != nil || !address.Addr().IsLoopback() {
		return nil, fmt.Errorf("%q is not an address and a port of loopback, such as 127.0.0.1:8001", at)
	}
	return net.Listen("tcp", at)
}
