package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"cacheproxy/bench/body"
	"cacheproxy/bench/load"
	"cacheproxy/bench/serve"
)

func TestModes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	origin := &serve.Origin{Slow: 10 * time.Millisecond}
	go func() { done <- origin.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, test := range []struct {
		args string
		asks int64
		says string
	}{
		{"-max-requests 30 -connections 3 -check 1 -pattern kind=hit,size=100,keys=10,zipf=1", 30, "over 3 connections, closed loop, /hit/100/ (10 keys by Zipf 1 from 0, weight 1), at most 30 requests"},
		{"-duration 10s -max-requests 20 -rate 200 -pattern unique,first=7", 20,
			"open loop of 200 requests/s, /hit/1024/ (another key each from 7, weight 1), for 10s after 0s, at most 20 requests"},
		{"-mode warm -connections 2 -pattern size=10,keys=25", 25, "once for each key"},
		{"-mode stampede -connections 12 -pattern kind=slow,size=10,first=3", 12, "12 times at once for /slow/10/3"},
		{"-mode check -rate 1000 -max-requests 15 -field ETag -pattern size=10,keys=3", 15, "1000 checks/s of 3 keys"},
	} {
		for _, more := range []string{"", " -json"} {
			var stdout, stderr bytes.Buffer
			before := origin.Counts().Requests
			failed, err := run(ctx, strings.Fields("-addr "+l.Addr().String()+" "+test.args+more), &stdout, &stderr)
			if err != nil || failed || !strings.Contains(stderr.String(), test.says) || !strings.Contains(stderr.String(), l.Addr().String()) {
				t.Errorf("%s: %v, %v, %s", test.args, failed, err, stderr.String())
			}
			if n := origin.Counts().Requests - before; n != test.asks {
				t.Errorf("%s: %d requests", test.args, n)
			}
			if json.Valid(stdout.Bytes()) != (more != "") {
				t.Errorf("%s%s: %s", test.args, more, stdout.String())
			}
		}
	}
}

func TestPatterns(t *testing.T) {
	got, err := pattern("kind=pass,size=5,keys=7,first=9,zipf=0.8,weight=2.5,unique=false")
	if want := (load.Pattern{Kind: body.Pass, Size: 5, Keys: 7, FirstID: 9, Zipf: 0.8, Weight: 2.5}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "size", "size=a", "keys=-1", "zipf=x", "unique=x", "other=1"} {
		if got, err := pattern(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, args := range []string{
		"", "-addr 127.0.0.1:1", "-pattern size=1", "-addr 127.0.0.1:1 -pattern size=1 more", "-addr 127.0.0.1:1 -pattern size=1 -mode other",
		"-addr 0.0.0.0:1 -pattern size=1 -max-requests 1", "-addr 192.0.2.1:1 -pattern size=1 -max-requests 1", "-addr 192.0.2.1:1 -pattern size=1 -mode stampede",
		"-addr 192.0.2.1:1 -pattern size=1 -mode warm", "-addr 192.0.2.1:1 -pattern size=1 -mode check", "-addr 127.0.0.1:1 -pattern unique -mode check",
		"-addr 127.0.0.1:1 -pattern size=1",
	} {
		var stdout, stderr bytes.Buffer
		if _, err := run(context.Background(), strings.Fields(args), &stdout, &stderr); err == nil || stdout.Len() > 0 {
			t.Errorf("%q is taken: %s", args, stdout.String())
		}
	}
}
