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

	"cacheproxy/bench/body"
	"cacheproxy/bench/serve"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "the loopback `ADDRESS:PORT` to listen on; 0 = any free port")
	as := flag.String("as", "origin", "what to be: origin, floor (fixed bytes, in one thread), nethttp (fixed bytes by net/http)")
	slow := flag.Duration("slow", time.Second, "with origin: how long a resource of kind slow takes")
	size := flag.Int("size", 1024, "with floor: it answers with /hit/SIZE/0, in `BYTES`")
	flag.Parse()
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *as, *slow, *size); err != nil {
		log.Fatal("origin: ", err)
	}
}

// server is one of package serve.
type server interface {
	Serve(context.Context, net.Listener) error
}

func run(ctx context.Context, listen, as string, slow time.Duration, size int) error {
	address, err := netip.ParseAddrPort(listen)
	if err != nil || !address.Addr().IsLoopback() {
		return fmt.Errorf("%q is not an address and a port of loopback, such as 127.0.0.1:8001", listen)
	}
	if size < 0 || size > body.MaxSize {
		return fmt.Errorf("-size is from 0 to %d", body.MaxSize)
	}
	var s server
	switch as {
	case "origin":
		s = &serve.Origin{Slow: slow}
	case "floor":
		s = &serve.Floor{Size: size, Alone: true}
	case "nethttp":
		s = &serve.NetHTTP{}
	default:
		return fmt.Errorf("-as %q: it is origin, floor or nethttp", as)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return s.Serve(ctx, l)
}
