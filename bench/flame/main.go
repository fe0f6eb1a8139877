// Command flame draws profiles as flame graphs, and takes them from a program that runs. Run it in the bench directory:
//
//	go run ./flame -type alloc_space -title 'A miss' -o miss.svg allocs.pprof
//	go run ./flame -from http://127.0.0.1:6060 -for 10s -out DIR
//
// The second takes profiles of the processor, of allocations, of the heap, of blocking and of mutexes for that long, while somebody gives the
// program work, and draws those of the processor and of allocated bytes. The program must have package net/http/pprof at that address.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cacheproxy/bench/flamegraph"
	"cacheproxy/bench/profile"
)

func main() {
	var o flamegraph.Options
	flag.StringVar(&o.Type, "type", "", "type of the values: cpu, alloc_space, alloc_objects, inuse_space, delay ...; empty = as go tool pprof shows")
	flag.StringVar(&o.Title, "title", "", "what stands over the picture; empty = the type, or with -from the name of the directory")
	to := flag.String("o", "", "where the SVG of one profile is written; empty = beside it")
	from := flag.String("from", "", "URL of a program with net/http/pprof, without /debug/pprof: take profiles from there")
	length := flag.Duration("for", 10*time.Second, "with -from: how long")
	out := flag.String("out", ".", "with -from: the directory for profiles and pictures")
	flag.Parse()
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case *from != "" && flag.NArg() == 0:
		if o.Title == "" {
			o.Title = filepath.Base(*out)
		}
		err = profile.Take(ctx, *from, *length, *out, o.Title)
	case *from == "" && flag.NArg() == 1:
		if *to == "" {
			*to = strings.TrimSuffix(flag.Arg(0), filepath.Ext(flag.Arg(0))) + ".svg"
		}
		err = flamegraph.DrawFile(flag.Arg(0), *to, o)
	default:
		err = errors.New("name one profile, or -from URL")
	}
	if err != nil {
		log.Fatal("flame: ", err)
	}
}
