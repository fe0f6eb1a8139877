package store

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"cacheproxy/internal/breaker"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// answering is the address of a server that gives one answer to every command but the greeting.
func answering(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if !strings.HasPrefix(lines.Text(), "*") || !lines.Scan() || !lines.Scan() {
						continue
					}
					reply := answer // to a command of this name
					if lines.Text() == "hello" {
						reply = "-ERR unknown command 'hello'"
					}
					if _, err := conn.Write([]byte(reply + "\r\n")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// What will pass is no reason to give up a forget, and what says that Redis is there no reason to stop asking it.
func TestErrorReplies(t *testing.T) {
	for reply, want := range map[string]breaker.Fault{
		"OOM command not allowed when used memory > 'maxmemory'.": {Cause: "oom", Answered: true, Passing: true, Writes: true},
		"READONLY You can't write against a read only replica.":   {Cause: "readonly", Answered: true, Passing: true, Writes: true},
		"LOADING Redis is loading the dataset in memory":          {Cause: "loading", Passing: true},
		"NOPERM this user has no permissions":                     {Cause: "permission", Answered: true},
		"WRONGPASS invalid username-password pair":                {Cause: "auth", Passing: true},
		"CLUSTERDOWN The cluster is down":                         {Cause: "cluster", Passing: true},
		"TRYAGAIN Multiple keys request during rehashing of slot": {Cause: "cluster", Answered: true, Passing: true},
		"MOVED 3999 127.0.0.1:6381":                               {Cause: "cluster", Answered: true, Passing: true},
		"ASK 3999 127.0.0.1:6381":                                 {Cause: "cluster", Answered: true, Passing: true},
		"ERR max number of clients reached":                       {Cause: "connect", Passing: true},
		"ERR unknown command 'EXISTS'":                            {Cause: "reply", Answered: true},
	} {
		client := dial(t, "redis://"+answering(t, "-"+reply), DialOptions{Timeout: patience})
		err := client.Exists(t.Context(), "x").Err()
		if got := breaker.Classify(err); got != want {
			t.Errorf("%v: %+v, want %+v", err, got, want)
		}
	}
}

// A reply whose length cannot be is an error like any other: the client library panics on it.
func TestReplyOfImpossibleLength(t *testing.T) {
	for _, scheme := range []string{"redis", "redis+cluster"} {
		s, m := troubled(t, scheme+"://"+answering(t, "$9223372036854775807"), patiently)
		s.Save(mustEntry(t, draft("http://a.example/x")))
		flush(t, s)
		failUntilOpen(t, s)
		if s.far.probe(t.Context()) == nil {
			t.Errorf("%s: that is taken for an answer", scheme)
		}
		if n := count(t, m, "redis_errors_total", "cause", "connection"); n < 3 {
			t.Errorf("%s: %v counted", scheme, n)
		}
	}
}

// A connection that Redis refuses, here after the password has changed, is an error of the pipeline and of none of its replies, which
// look empty: that says nothing about the chunks.
func TestChunksBehindARefusedConnection(t *testing.T) {
	server := redistest.StartWith(t, redistest.Options{User: "app", Password: "first", Rules: documentedRules(t)})
	s, m := troubled(t, fmt.Sprintf("redis://app:first@%s", server.Addr()), func(o *Options) {
		o.Timeout = patience
		o.NearMaxObject = 4 << 20
	})
	d := draft("http://a.example/x")
	d.Body = bytesOf(1, 2<<20)
	e := saved(t, s, d)
	s.near.cache.InvalidateAll()
	g := newGate("get", true) // the root and the entry; then the chunks
	s.far.client.AddHook(g)
	looked := make(chan Result)
	go func() { looked <- s.Lookup(context.Background(), e.Key(), nil) }()
	<-g.reached
	for _, order := range [][]any{{"ACL", "SETUSER", "app", "resetpass", ">second"}, {"CLIENT", "KILL", "USER", "app"}} {
		if err := server.Admin().Do(t.Context(), order...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	g.open()
	if r := <-looked; r.Entry != nil || r.Reason != policy.StoreUnavailable {
		t.Errorf("%+v", r)
	}
	if n := count(t, m, "redis_errors_total", "cause", "auth"); n != 1 || count(t, m, "corrupt_total") != 0 {
		t.Errorf("%v refusals are counted, and %v corrupt values", n, count(t, m, "corrupt_total"))
	}
	if n := s.far.saver.forgetsNow.Load(); n != 0 {
		t.Errorf("%d forgets wait", n)
	}
}
