package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"cacheproxy/events"
	"cacheproxy/invalidation"
	"cacheproxy/limiter"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]Target{
		"redis://a":                       {Network: "tcp", Addrs: []string{"a:6379"}},
		"REDIS://a:1/":                    {Network: "tcp", Addrs: []string{"a:1"}},
		"redis://:pw@a:1/3":               {Network: "tcp", Addrs: []string{"a:1"}, Password: "pw", DB: 3},
		"redis://u:p%40%3a%2f%25@[::1]:1": {Network: "tcp", Addrs: []string{"[::1]:1"}, Username: "u", Password: "p@:/%"},
		"redis://u:a/b?c#d@e@[::1]":       {Network: "tcp", Addrs: []string{"[::1]:6379"}, Username: "u", Password: "a/b?c#d@e"},
		"rediss://u:p@a?ca=/c&server_name=n&cert=/d&key=/e": {
			Network: "tcp", Addrs: []string{"a:6379"}, Username: "u", Password: "p", TLS: true, CA: "/c", Server: "n", Cert: "/d", Key: "/e"},
		"unix:///run/r.sock":                    {Network: "unix", Addrs: []string{"/run/r.sock"}},
		"unix://u:p@/run/a%20b?db=2":            {Network: "unix", Addrs: []string{"/run/a b"}, Username: "u", Password: "p", DB: 2},
		"redis+cluster://u:p@a:1,b,[::2]:3":     {Network: "tcp", Mode: Cluster, Addrs: []string{"a:1", "b:6379", "[::2]:3"}, Username: "u", Password: "p"},
		"rediss+cluster://a/0":                  {Network: "tcp", Mode: Cluster, TLS: true, Addrs: []string{"a:6379"}},
		"redis+sentinel://:p@a,b:2/my%20master": {Network: "tcp", Mode: Sentinel, Addrs: []string{"a:26379", "b:2"}, Password: "p", Master: "my master"},
		"rediss+sentinel://a/m/4":               {Network: "tcp", Mode: Sentinel, TLS: true, Addrs: []string{"a:26379"}, Master: "m", DB: 4},
	} {
		got, err := ParseURL(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %#v\nwant %#v", in, err, got, want)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "not a Redis URL",
		"a:6379":                      "not a Redis URL",
		"http://a":                    "not a Redis URL",
		"redis:a":                     "not a Redis URL",
		"redis://":                    "a host is empty",
		"redis://a:port":              "port is no number",
		"redis://a:0":                 "port is no number",
		"redis://a:65536":             "port is no number",
		"redis://a,b":                 "several hosts",
		"redis://a,":                  "a host is empty",
		"redis://::1":                 "brackets",
		"redis://:pw@[::1":            "no IPv6 address",
		"redis://[]:1":                "no IPv6 address",
		"redis://[a]:1":               "no IPv6 address",
		"redis://[::1]1":              "only a port",
		"redis://[::1]:":              "port is no number",
		"redis://a]:1":                "characters",
		"redis://a b":                 "characters",
		"redis://secret@a":            "colon",
		"redis://:se%zzcret@a":        "%25",
		"redis://a/x":                 "no number",
		"redis://a/-1":                "no number",
		"redis://a?db=1":              `"db"`,
		"redis://a?ca=x":              `"ca"`,
		"redis://a?%zz":               "bad parameters",
		"rediss://a?cert=x":           "belong together",
		"rediss://a?insecure=1":       `"insecure"`,
		"unix://run/x":                "absolute path",
		"unix:///x?db=x":              "no number",
		"redis+cluster://a/1":         "no databases",
		"redis+sentinel://a":          "master's name",
		"redis+sentinel://a/":         "master's name",
		"redis+sentinel://a/m/x":      "no number",
		"redis+sentinel://a/%zz":      "master's name",
		"redis://:secret/part@a:b/x":  "port is no number",
		"redis://:x?secret=1&y@a:1?z": `"z"`,
	} {
		got, err := ParseURL(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", in, got, err, want)
		}
	}
}

const secret = "s3cr3t-Pa55/w?rd"

// However a URL with a password is wrong or its server unwilling, the password is in no error and in nothing printed.
func TestPasswordIsNeverShown(t *testing.T) {
	server := redistest.StartWith(t, redistest.Options{User: "app", Password: "another"})
	for _, format := range []string{
		"redis://app:%s@%s", "rediss://app:%s@%s", "redis://:%s@%s", "redis://%s@%s", "redis://app:%s@%s/x", "redis://app:%s@%s?x=y",
		"redis+cluster://app:%s@%s", "redis+sentinel://app:%s@%s/m", "redis+sentinel://app:%s@%s", "redis://app:%s@%s:1:2", "http://app:%s@%s",
		"unix://app:%s@/nowhere/%s", "unix://app:%s@%s", "redis://app:%%zz%s@%s", "redis://app:%s%s",
	} {
		url := fmt.Sprintf(format, secret, server.Addr())
		shown := make([]string, 0, 4)
		if target, err := ParseURL(url); err == nil {
			shown = append(shown, target.String(), fmt.Sprintf("%v %+v %#v", target, target, target))
		}
		client, err := Dial(url, DialOptions{})
		if err != nil {
			shown = append(shown, err.Error())
			if !strings.Contains(err.Error(), "`redis.url`") {
				t.Errorf("%s: the error does not name the key: %v", format, err)
			}
		} else {
			shown = append(shown, fmt.Sprint(client.Ping(t.Context()).Err()), fmt.Sprint(client))
			_ = client.Close()
		}
		for _, s := range shown {
			if strings.Contains(s, "s3cr3t") {
				t.Errorf("%s: %s", format, s)
			}
		}
	}
}

func TestTargetString(t *testing.T) {
	for in, want := range map[string]string{
		"redis://a":                       "redis://a:6379",
		"rediss://:p@a/2":                 "rediss://:***@a:6379/2",
		"unix://u:p@/run/x?db=2":          "unix://u:***@/run/x?db=2",
		"redis+cluster://u:p@a,b":         "redis+cluster://u:***@a:6379,b:6379",
		"rediss+sentinel://u:p@a,b/m%20/": "rediss+sentinel://u:***@a:26379,b:26379/m%20",
	} {
		target, err := ParseURL(in)
		if err != nil || target.String() != want {
			t.Errorf("%s: %v, %v", in, target, err)
		}
	}
}

func TestDialRefusesBadFiles(t *testing.T) {
	for _, url := range []string{"rediss://a?ca=/nowhere", "rediss://a?ca=/dev/null", "rediss://a?cert=/nowhere&key=/nowhere"} {
		if _, err := Dial(url, DialOptions{ConfigKey: "redis.state_url"}); err == nil || !strings.Contains(err.Error(), "`redis.state_url`: parameter") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// Every way to a Redis carries the whole of a store's life.
func TestWaysToRedis(t *testing.T) {
	plain := redistest.StartSettled(t)
	secure := redistest.StartWith(t, redistest.Options{TLS: true})
	limited := redistest.StartWith(t, redistest.Options{User: "app", Password: secret, Rules: documentedRules(t)})
	mutual := redistest.StartWith(t, redistest.Options{TLS: true, ClientCerts: true})
	cluster := redistest.StartCluster(t, 3, 0)
	for _, node := range cluster.Nodes {
		rules := append([]any{"ACL", "SETUSER", "app", "on", ">" + secret}, words(documentedRules(t)+clusterRules)...)
		if err := node.Admin().Do(t.Context(), rules...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for name, url := range map[string]string{
		"tcp":              plain.URL(),
		"another database": plain.URL() + "/3",
		"unix":             "unix://" + plain.Socket(),
		"unix, db":         "unix://" + plain.Socket() + "?db=4",
		"tls":              "rediss://" + secure.Addr() + "?ca=" + secure.CAFile(),
		"tls, certificate": fmt.Sprintf("rediss://%s?ca=%s&cert=%s&key=%s", mutual.Addr(), mutual.CAFile(), mutual.ClientCertFile(), mutual.ClientKeyFile()),
		"acl":              fmt.Sprintf("redis://app:%s@%s", secret, limited.Addr()),
		"cluster, acl":     strings.Replace(cluster.URL(), "://", "://app:"+secret+"@", 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, farOptions(dial(t, url, DialOptions{Timeout: patience})))
			e := saved(t, s, draft("http://a.example/x"))
			if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry == nil {
				t.Fatalf("%+v", r)
			}
			s.ForgetEntry(e)
			flush(t, s)
			if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil {
				t.Errorf("after ForgetEntry: %+v", r)
			}
			for i := range 5 { // on several nodes of a cluster
				e = saved(t, s, draft(fmt.Sprint("http://a.example/x", i)))
				s.Forget(e.URL())
				flush(t, s)
				if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil {
					t.Errorf("after Forget: %+v", r)
				}
			}
			large := draft("http://a.example/large")
			large.Body = make([]byte, maxRedisBody+1)
			e = saved(t, s, large)
			if got, err := read(t, s, e, 0, e.BodyLen()); err != nil || !bytes.Equal(got, large.Body) {
				t.Errorf("in chunks: %d bytes, %v", len(got), err)
			}
			if facts, err := Inspect(t.Context(), s.far.client); err != nil || facts.Policy != "noeviction" {
				t.Errorf("%+v, %v", facts, err)
			}
			if err := s.far.probe(t.Context()); err != nil {
				t.Errorf("probe: %v", err)
			}
			followPurges(t, url, s)
		})
	}
	t.Run("acl, another prefix", func(t *testing.T) {
		o := farOptions(dial(t, fmt.Sprintf("redis://app:%s@%s", secret, limited.Addr()), DialOptions{Timeout: patience}))
		o.Prefix = "other"
		s := newStore(t, o)
		if r := s.Lookup(t.Context(), policy.Key{URL: "http://a.example/x"}, nil); r.Reason != policy.StoreUnavailable {
			t.Errorf("%+v", r)
		}
		if !s.far.breaker.Allow() {
			t.Error("a Redis that answers NOPERM is there")
		}
	})
	t.Run("tls, unknown authority", func(t *testing.T) {
		s, m := troubled(t, "rediss://"+secure.Addr(), patiently)
		failUntilOpen(t, s)
		if got := count(t, m, "redis_errors_total", "cause", "tls"); got < 3 {
			t.Errorf("%v errors counted under tls", got)
		}
	})
	t.Run("tls, no certificate", func(t *testing.T) {
		s, _ := troubled(t, "rediss://"+mutual.Addr()+"?ca="+mutual.CAFile(), patiently)
		failUntilOpen(t, s)
	})
	t.Run("wrong password", func(t *testing.T) {
		s, m := troubled(t, fmt.Sprintf("redis://app:wrong@%s", limited.Addr()), patiently)
		failUntilOpen(t, s)
		if got := count(t, m, "redis_errors_total", "cause", "auth"); got < 3 {
			t.Errorf("%v errors counted under auth", got)
		}
	})
}

// followPurges does all that the log of purges needs of a Redis.
func followPurges(t *testing.T, url string, s *Store) {
	t.Helper()
	waiting, err := Dial(url, DialOptions{Timeout: patience}) // the follower closes it
	if err != nil {
		t.Fatal(err)
	}
	f, err := invalidation.Start(invalidation.Options{
		Redis: dial(t, url, DialOptions{Timeout: patience}), Waiting: waiting, Prefix: "cp", Instance: "a", Timeout: patience, Log: slog.New(slog.DiscardHandler),
		Horizon: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("not %s", what)
				return
			}
		}
	}
	await("registered", f.Registered)
	sweepTags(t, url, f)
	f.Sweep(s)
	r, err := f.Purge(t.Context(), invalidation.Purge{Kind: invalidation.KindAll}, patience)
	if err != nil || !r.Complete() || len(r.Applied) != 1 {
		t.Errorf("a purge: %+v, %v", r, err)
	}
	if list, err := f.History(t.Context(), 1, 0); err != nil || len(list) != 1 || list[0].Seq != r.Sequence {
		t.Errorf("the history: %v, %v", list, err)
	}
	for _, kind := range []invalidation.Kind{invalidation.KindAll, invalidation.KindURL} { // the last record stays in the log
		if _, err := f.Purge(t.Context(), invalidation.Purge{Kind: kind, Selector: "http://a.example/x"}, 0); err != nil {
			t.Error(err)
		}
	}
	await("swept twice and trimmed", func() bool {
		first, err := f.Recorded(t.Context(), r.Sequence)
		return err == nil && first != nil && first.Past && first.Outcome.Of > 0
	})
	if got, err := f.Cancel(t.Context(), r.Sequence, "me"); err != nil || got != invalidation.CancelGone {
		t.Errorf("cancelling: %v, %v", got, err)
	}
	if _, err := s.Preview(t.Context(), &invalidation.Purge{Kind: invalidation.KindAll}); err != nil {
		t.Errorf("a preview: %v", err)
	}
	if _, _, err := s.Origins(t.Context()); err != nil {
		t.Errorf("what is held: %v", err)
	}
	s.Save(mustEntry(t, draft("http://a.example/entries")))
	flush(t, s)
	if list, err := s.Entries(t.Context(), "http://a.example/entries"); err != nil || len(list) != 1 || list[0].Expires.IsZero() {
		t.Errorf("entries: %+v, %v", list, err)
	}
	turnEvents(t, url, f)
	countRequests(t, url)
	if err := f.Close(t.Context()); err != nil {
		t.Errorf("leaving: %v", err)
	}
}

// countRequests does all that limits need of a Redis.
func countRequests(t *testing.T, url string) {
	t.Helper()
	l, err := limiter.New(limiter.Options{
		Redis: dial(t, url, DialOptions{Timeout: patience}), Timeout: patience, Log: slog.New(slog.DiscardHandler),
		Limits: []limiter.Spec{
			{Name: "a", Limit: 100, Window: time.Hour}, {Name: "b", Limit: 100, Window: time.Hour, Algorithm: limiter.Sliding, OnOutage: limiter.Closed},
			{Name: "c", Limit: 100, Window: time.Hour, Algorithm: limiter.GCRA, OnOutage: limiter.Closed}, {Name: "d", Limit: 1, Window: time.Hour, OnOutage: limiter.Closed},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	set, err := l.Current().All()
	if err != nil {
		t.Fatal(err)
	}
	asker := &limiter.Asker{Request: httptest.NewRequest("GET", "http://a.example/", nil)}
	for _, refused := range []string{"", "d"} {
		var r limiter.Reservation
		if set.Reserve(t.Context(), asker, &r); r.Limit() != refused || r.Unavailable() {
			t.Errorf("limits: refused by %q, want %q; unavailable %v", r.Limit(), refused, r.Unavailable())
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		told, err := l.Reset(t.Context(), "d", "")
		if err == nil && told == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("limits: a reset told %d: %v", told, err)
			break
		}
	}
	if err := l.Close(t.Context()); err != nil { // tells who was busiest
		t.Error(err)
	}
	if busy, err := l.Busiest(t.Context(), "d", 1); err != nil || len(busy) != 1 || busy[0].Refused == 0 {
		t.Errorf("limits: who is busiest: %v, %v", busy, err)
	}
}

// turnEvents does all that events need of a Redis.
func turnEvents(t *testing.T, url string, f *invalidation.Follower) {
	t.Helper()
	client := dial(t, url, DialOptions{Timeout: patience})
	rules, mistakes := events.Compile([]events.Spec{{Channel: "cp:app", Tags: []string{"a"}}, {Channel: "cp:*", Tags: []string{"b"}}},
		func(s events.Selection) (invalidation.Purge, error) {
			return invalidation.Purge{Kind: invalidation.KindTag, Tags: s.Tags}, nil
		})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	appended := make(chan string, 100)
	l, err := events.Listen(events.Options{
		Redis: client, Prefix: "cp", ID: f.ID(), Rules: rules, Log: slog.New(slog.DiscardHandler),
		Append: func(ctx context.Context, p invalidation.Purge) error {
			_, err := f.Purge(ctx, p, 0)
			select {
			case appended <- p.Tags[0]:
			default:
			}
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := events.NewPublisher(client, "cp", nil, slog.New(slog.DiscardHandler))
	defer p.Close()
	p.Publish(events.AboutPurges, 1)
	got := map[string]bool{}
	for deadline := time.Now().Add(patience); !got["a"] || !got["b"]; {
		if time.Now().After(deadline) {
			t.Errorf("events purged %v alone", got)
			return
		}
		if err := client.Publish(t.Context(), "cp:app", "").Err(); err != nil { // until it is subscribed to
			t.Error(err)
		}
		for len(appended) > 0 {
			got[<-appended] = true
		}
		time.Sleep(time.Millisecond)
	}
}

// sweepTags does all that the index needs of a Redis.
func sweepTags(t *testing.T, url string, f *invalidation.Follower) {
	t.Helper()
	o := farOptions(dial(t, url, DialOptions{Timeout: patience}))
	o.Follower = f
	r := replica{newStore(t, o), f}
	for range 2 { // by all entries, and by the index
		r.stored(t, "http://a.example/tagged", withTags("x"))
		if n := r.sweeps(t, byTag("x")); n != 1 {
			t.Errorf("a tag: swept %d", n)
		}
	}
	if n := r.sweeps(t, invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"x", "y"}, MatchAll: true}); n != 0 {
		t.Errorf("two tags: swept %d", n)
	}
	if mark, err := r.far.index.mark(t.Context(), r.far.client); err != nil || mark == "" {
		t.Errorf("the index is not used: %v", err)
	}
	r.far.index.clock = func() time.Time { return time.Now().Add(24 * time.Hour) }
	r.stored(t, "http://a.example/tagged", withTags("x"))
	r.far.index.clock = func() time.Time { return time.Now().Add(72 * time.Hour) }
	if err := errors.Join(r.far.index.trim(t.Context()), r.far.index.doubt(t.Context())); err != nil {
		t.Errorf("the janitor: %v", err)
	}
}

// clusterRules are what a user of a cluster needs beside.
const clusterRules = " +cluster|slots +asking"

// documentedRules are the ACL rules that docs/store.md tells operators to give.
func documentedRules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/store.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "ACL SETUSER cacheproxy on >PASSWORD ")
	rules, _, _ := strings.Cut(after, "\n")
	if !strings.HasPrefix(rules, "~cp:* &cp:* ") || !strings.Contains(string(text), strings.TrimSpace(clusterRules)) {
		t.Fatalf("docs/store.md has no rules: %q", rules)
	}
	return rules + " +select" // for the tests with another database
}

func words(s string) (all []any) {
	for _, word := range strings.Fields(s) {
		all = append(all, word)
	}
	return all
}
