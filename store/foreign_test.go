package store

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// What Redis returns may be anything. These tests put it there.

func TestRedisReturnsWhatIsNotTheEntry(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	ctx := t.Context()
	const url = "http://a.example/x"
	keys := newKeyspace("cp").of(url)
	entryKey := keys.entryKey(variantOf("", "", nil))
	another := mustEntry(t, draft("http://a.example/another"))

	for _, c := range []struct {
		name     string
		spoil    func(e *Entry) error
		corrupt  float64
		varyMiss bool
	}{
		{"nothing", func(*Entry) error { return client.Del(ctx, entryKey).Err() }, 0, false},
		{"no root", func(*Entry) error { return client.Del(ctx, keys.root).Err() }, 0, false},
		{"empty", func(*Entry) error { return client.Set(ctx, entryKey, "", 0).Err() }, 1, false},
		{"noise", func(*Entry) error { return client.Set(ctx, entryKey, "noise", 0).Err() }, 1, false},
		{"one byte changed", func(e *Entry) error {
			return client.SetRange(ctx, entryKey, int64(len(e.block())-1), "X").Err()
		}, 1, false},
		{"cut short", func(e *Entry) error { return client.Set(ctx, entryKey, e.block()[:len(e.block())-1], 0).Err() }, 1, false},
		{"another key's entry", func(*Entry) error {
			if err := client.HSet(ctx, keys.root, another.variant(), fillHex(another.Fill())+" 9 9 ").Err(); err != nil {
				return err
			}
			return client.Set(ctx, entryKey, another.block(), 0).Err()
		}, 1, false},
		{"another fill", func(e *Entry) error {
			d := e.Redraft()
			d.Fill++
			return client.Set(ctx, entryKey, mustEntry(t, d).block(), 0).Err()
		}, 0, false},
		{"past its time", func(e *Entry) error {
			d := e.Redraft()
			d.KeepUntil = time.Now().Add(-time.Second)
			return client.Set(ctx, entryKey, mustEntry(t, d).block(), 0).Err()
		}, 0, false},
		{"newer version", func(*Entry) error { return client.SetRange(ctx, entryKey, atVersion, "\x02").Err() }, 0, false},
		{"newer root", func(e *Entry) error { return client.HSet(ctx, keys.root, e.variant(), "v2:whatever").Err() }, 0, true},
		{"entry of another type", func(*Entry) error {
			client.Del(ctx, entryKey)
			return client.LPush(ctx, entryKey, "x").Err()
		}, 1, false},
		{"root of another type", func(*Entry) error { return client.Set(ctx, keys.root, "x", 0).Err() }, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := metrics.New()
			o := farOptions(client)
			o.Metrics = m
			s := newStore(t, o)
			client.Del(ctx, keys.root, entryKey)
			e := saved(t, s, draft(url))
			if r := s.Lookup(ctx, e.Key(), nil); r.Entry == nil {
				t.Fatalf("unspoilt: %+v", r)
			}
			if err := c.spoil(e); err != nil {
				t.Fatal(err)
			}
			r := s.Lookup(ctx, e.Key(), nil)
			if r.Entry != nil || r.Tier != TierNone || r.VaryMiss != c.varyMiss || r.Reason != policy.None {
				t.Errorf("%+v", r)
			}
			if got := count(t, m, "corrupt_total"); got != c.corrupt {
				t.Errorf("counted %v as corrupt, want %v", got, c.corrupt)
			}
			if !s.far.breaker.Allow() {
				t.Error("the breaker opened")
			}
		})
	}
}

// What is logged of Redis shows URLs as it is told to, and without their queries where it is told nothing.
func TestComplaintsShowNoSecrets(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	for _, shownURL := range []func(string) string{nil, func(url string) string { return strings.ReplaceAll(url, "hush", "REDACTED") }} {
		var out strings.Builder
		o := farOptions(client)
		o.ShownURL, o.Log = shownURL, slog.New(slog.NewTextHandler(&out, nil))
		s := newStore(t, o)
		e := saved(t, s, draft("http://a.example/x?token=hush"))
		keys := s.far.keys.of(e.URL())
		another := mustEntry(t, draft("http://a.example/another?token=hush"))
		if err := client.HSet(t.Context(), keys.root, another.variant(), fillHex(another.Fill())+" 9 9 ").Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.Set(t.Context(), keys.entryKey(e.variant()), another.block(), 0).Err(); err != nil {
			t.Fatal(err)
		}
		if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil {
			t.Errorf("%+v", r)
		}

		s.far.log.next.Store(0)
		l := s.far.saver.lane(e.URL())
		l.mu.Lock()
		l.forgets += maxForgets
		l.mu.Unlock()
		s.Forget(e.URL())
		l.mu.Lock()
		l.forgets -= maxForgets
		l.mu.Unlock()

		s.far.log.next.Store(0)
		if err := client.Do(t.Context(), "NOSUCH", keys.root).Err(); err == nil || !strings.Contains(err.Error(), "hush") {
			t.Errorf("a command that does not exist: %v", err)
		} else {
			s.far.settle(t.Context(), "lookup", err)
		}
		text := out.String()
		for _, want := range []string{"no entry of its key", "that of another key: http://a.example/another", "too many forgets", "unknown command"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in %s", want, text)
			}
		}
		if strings.Contains(text, "hush") || strings.Contains(text, "token=REDACTED") != (shownURL != nil) {
			t.Error(text)
		}
	}
}

func TestSaveScriptRefuses(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	ctx := t.Context()
	const url = "http://a.example/x"
	keys := newKeyspace("cp").of(url)
	entryKey := keys.entryKey(variantOf("", "", nil))
	entry := func(epoch, bodyAsOf uint64) *Entry {
		d := draft(url)
		d.Epoch, d.BodyAsOf = epoch, bodyAsOf
		return mustEntry(t, d)
	}
	newer := entry(1, 5).block()
	newer[atVersion] = version + 1
	flagged := func(flags uint32) []byte {
		block := entry(1, 5).block()
		putU32(block, atFlags, flags)
		return block
	}
	for _, c := range []struct {
		name   string
		there  []byte
		save   *Entry
		result string
	}{
		{"nothing there", nil, entry(1, 5), savedOK},
		{"lower", entry(1, 4).block(), entry(1, 5), savedOK},
		{"equal", entry(1, 5).block(), entry(1, 5), savedOK},
		{"higher", entry(1, 6).block(), entry(1, 5), savedRefused},
		{"higher in the top bit", entry(1, 1<<63).block(), entry(1, 1<<63-1), savedRefused},
		{"lower in the top bit", entry(1, 1<<63-1).block(), entry(1, 1<<63), savedOK},
		{"differs beyond 53 bits", entry(1, 1<<60+1).block(), entry(1, 1<<60), savedRefused},
		{"higher, of another epoch", entry(2, 6).block(), entry(1, 5), savedOK},
		{"newer version", newer, entry(1, 5), savedRefused},
		{"newer version, of which only this is there", newer[:4], entry(1, 5), savedRefused},
		{"all flags there are", flagged(flagsKnown &^ flagChunked), entry(1, 5), savedOK},
		{"a flag of a newer version", flagged(flagsKnown + 1), entry(1, 5), savedRefused},
		{"its last flag", flagged(1 << 31), entry(1, 5), savedRefused},
		{"noise", []byte("noise, longer than the part of the preamble that the script reads"), entry(1, 5), savedOK},
		{"cut short", entry(1, 6).block()[:31], entry(1, 5), savedOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := metrics.New()
			o := farOptions(client)
			o.Metrics = m
			s := newStore(t, o)
			client.Del(ctx, keys.root, entryKey)
			if c.there != nil {
				client.Set(ctx, entryKey, c.there, 0)
			}
			if r := s.Save(c.save); r != policy.None {
				t.Fatal(r)
			}
			flush(t, s)
			if got := count(t, m, "saves_total", "result", c.result); got != 1 {
				t.Errorf("%s counted %v times", c.result, got)
			}
			want := c.save.block()
			if c.result != savedOK {
				want = c.there
			}
			if got := client.Get(ctx, entryKey).Val(); got != string(want) {
				t.Errorf("there is now %q", got)
			}
			if found := s.Lookup(ctx, c.save.Key(), nil).Entry != nil; found != (c.result == savedOK) {
				t.Errorf("found: %v", found)
			}
		})
	}
}

// Fields of the root that this version cannot read are another's: they neither count nor go.
func TestSaveScriptLeavesForeignFieldsOfTheRoot(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	o := farOptions(client)
	o.VariantCap = 1
	s := newStore(t, o)
	d := draft("http://a.example/x")
	root := newKeyspace("cp").of(d.Key.URL).root
	client.HSet(t.Context(), root, "theirs", "v2 something else", "gone", "0000000000000001 1000 5 ")
	e := saved(t, s, d)
	fields := client.HGetAll(t.Context(), root).Val()
	if len(fields) != 2 || fields["theirs"] != "v2 something else" || fields[e.variant()] == "" {
		t.Errorf("%q", fields)
	}
}
