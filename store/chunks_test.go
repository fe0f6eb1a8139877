package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// bytesOf are n bytes that follow from seed.
func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// uploaded streams a body into the store in pieces of odd sizes, and waits until Redis has it.
func uploaded(t *testing.T, s *Store, d Draft, body []byte) {
	t.Helper()
	stamp := s.Mark()
	u := s.Upload(d.Key, d.Nomination, d.Selection, d.Fill)
	for piece := range slices.Chunk(body, 100_003) {
		if !u.Write(piece) {
			t.Fatal("the upload has failed")
		}
	}
	if why := s.SaveUploaded(d, u, stamp); why != policy.None {
		t.Fatal(why)
	}
	flush(t, s)
}

// read reads a stored body's bytes [first, end), and what went wrong.
func read(t *testing.T, s *Store, e *Entry, first, end int64) ([]byte, error) {
	t.Helper()
	b, err := s.Open(t.Context(), e, first, end)
	if err != nil {
		return nil, err
	}
	var all []byte
	for {
		piece, err := b.Next(t.Context())
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, piece...)
	}
}

// chunkStore is a store without near memory, a client beside it, and its counters.
func chunkStore(t *testing.T, change func(*Options)) (*Store, redis.UniversalClient, *metrics.Metrics) {
	t.Helper()
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	o := farOptions(client)
	o.Metrics = metrics.New()
	if change != nil {
		change(&o)
	}
	return newStore(t, o), client, o.Metrics
}

func TestLargeBodiesAreReadInPieces(t *testing.T) {
	s, client, _ := chunkStore(t, nil)
	for _, size := range []int{maxRedisBody + 1, 5 * chunkLen, 5*chunkLen + 1, 6*chunkLen - 1} {
		d := draft(fmt.Sprintf("http://a.example/%d", size))
		d.Fill = uint64(size)
		body := bytesOf(d.Fill, size)
		uploaded(t, s, d, body)
		e := s.Lookup(t.Context(), d.Key, nil).Entry
		if e == nil || !e.Chunked() || e.BodyLen() != int64(size) || e.Body() != nil {
			t.Fatalf("%d bytes: %+v", size, e)
		}
		for _, r := range [][2]int64{{0, int64(size)}, {0, 1}, {chunkLen - 1, chunkLen + 1}, {chunkLen, 2 * chunkLen}, {int64(size) - 1, int64(size)}, {7, 7}} {
			got, err := read(t, s, e, r[0], r[1])
			if r[0] == r[1] && err == io.EOF {
				err = nil
			}
			if err != nil || !bytes.Equal(got, body[r[0]:r[1]]) {
				t.Errorf("%d bytes, %v: %d bytes, %v", size, r, len(got), err)
			}
		}
	}
	for _, key := range client.Keys(t.Context(), "cp:b:*").Val() {
		if n := client.StrLen(t.Context(), key).Val(); n > digestLen+chunkLen {
			t.Errorf("%s has %d bytes", key, n)
		}
		if ttl := client.PTTL(t.Context(), key).Val(); ttl < time.Hour || ttl > time.Hour+chunkMargin {
			t.Errorf("%s lives for %v", key, ttl)
		}
	}
	if s.far.saver.bytes.Load() != 0 {
		t.Errorf("%d bytes wait", s.far.saver.bytes.Load())
	}
}

// What near memory may hold whole is whole there, and in Redis in chunks for the other replicas.
func TestLargeBodyThatNearMemoryHolds(t *testing.T) {
	s, client, m := chunkStore(t, func(o *Options) { o.NearMaxObject = 4 << 20 })
	d := draft("http://a.example/x")
	d.Body = bytesOf(1, 2<<20)
	e := saved(t, s, d)
	if r := s.Lookup(t.Context(), d.Key, nil); r.Tier != TierNear || r.Entry != e {
		t.Errorf("%+v", r)
	}
	if count(t, m, "saves_total", "result", savedOK) != 1 {
		t.Error("not saved once")
	}
	o := farOptions(client)
	o.NearMaxObject = 4 << 20
	other := newStore(t, o)
	for _, tier := range []Tier{TierRedis, TierNear} {
		r := other.Lookup(t.Context(), d.Key, nil)
		if r.Entry == nil || r.Tier != tier || r.Entry.Chunked() || !bytes.Equal(r.Entry.Body(), d.Body) || r.Entry.Fill() != e.Fill() {
			t.Errorf("%v: %+v", tier, r)
		}
	}
	o.NearMaxObject = 1 << 20
	small := newStore(t, o)
	for range 2 { // from Redis, and then its head from near memory
		r := small.Lookup(t.Context(), d.Key, nil)
		if r.Entry == nil || r.Tier != TierRedis || !r.Entry.Chunked() {
			t.Fatalf("%+v", r)
		}
		if got, err := read(t, small, r.Entry, 0, 2<<20); err != nil || !bytes.Equal(got, d.Body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if !small.near.holds(small.Lookup(t.Context(), d.Key, nil).Entry) {
		t.Error("near memory has no head")
	}
}

// A chunk that is gone is a miss where nothing has been sent yet, and an error where something has; so is one that is not what was written.
func TestChunksThatVanish(t *testing.T) {
	for name, spoil := range map[string]func(client redis.UniversalClient, key string) error{
		"gone": func(c redis.UniversalClient, key string) error { return c.Del(context.Background(), key).Err() },
		"changed": func(c redis.UniversalClient, key string) error {
			return c.SetRange(context.Background(), key, 1000, "X").Err()
		},
		"cut short": func(c redis.UniversalClient, key string) error {
			return c.Set(context.Background(), key, "short", 0).Err()
		},
		"too long": func(c redis.UniversalClient, key string) error {
			return c.Append(context.Background(), key, "more").Err()
		},
		"of another type": func(c redis.UniversalClient, key string) error {
			c.Del(context.Background(), key)
			return c.LPush(context.Background(), key, "x").Err()
		},
		"another's": func(c redis.UniversalClient, key string) error {
			return c.Copy(context.Background(), key[:len(key)-1]+"0", key, 0, true).Err()
		},
	} {
		for _, near := range []int64{1, 1 << 20} { // without and with the entry's head in near memory
			t.Run(fmt.Sprint(name, near), func(t *testing.T) {
				s, client, m := chunkStore(t, func(o *Options) { o.NearMaxObject = near })
				d := draft("http://a.example/x")
				d.Fill = 5
				body := bytesOf(5, 1<<21)
				uploaded(t, s, d, body)
				e := s.Lookup(t.Context(), d.Key, nil).Entry
				if e == nil {
					t.Fatal("not found")
				}
				b, err := s.Open(t.Context(), e, 0, e.BodyLen())
				if err != nil {
					t.Fatal(err)
				}
				if err := spoil(client, s.far.chunkKeys(e)[3]); err != nil {
					t.Fatal(err)
				}
				var got []byte
				for err == nil {
					var piece []byte
					piece, err = b.Next(t.Context())
					got = append(got, piece...)
				}
				if !errors.Is(err, errNoChunk) || !bytes.Equal(got, body[:3*chunkLen]) {
					t.Errorf("%d bytes, then %v", len(got), err)
				}
				if _, err := s.Open(t.Context(), e, 3*chunkLen+5, e.BodyLen()); !errors.Is(err, errNoChunk) {
					t.Errorf("Open: %v", err)
				}
				if corrupt := count(t, m, "corrupt_total") > 0; corrupt != (name != "gone") {
					t.Errorf("counted as corrupt: %v", corrupt)
				}
				if r := s.Lookup(t.Context(), d.Key, nil); r.Entry != nil || r.Reason != policy.None {
					t.Errorf("found: %+v", r)
				}
				flush(t, s)
				if n := client.Exists(t.Context(), "cp:v:{http://a.example/x}").Val(); n != 0 {
					t.Error("its root still names it")
				}
			})
		}
	}
}

// Whole entries that lost a chunk, or have something else in its place, are a miss too.
func TestChunkThatIsGoneOfAWholeEntry(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		s, client, m := chunkStore(t, func(o *Options) { o.NearMaxObject = 4 << 20 })
		d := draft("http://a.example/x")
		d.Body = bytesOf(1, 2<<20)
		key := s.far.chunkKeys(saved(t, s, d))[1]
		if err := client.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
		if foreign {
			client.LPush(t.Context(), key, "x")
		}
		s.near.cache.InvalidateAll()
		if r := s.Lookup(t.Context(), d.Key, nil); r.Entry != nil || r.Reason != policy.None {
			t.Errorf("%+v", r)
		}
		if corrupt := count(t, m, "corrupt_total") > 0; corrupt != foreign {
			t.Errorf("counted as corrupt: %v", corrupt)
		}
	}
}

func TestReplacedChunksExpireSoon(t *testing.T) {
	s, client, _ := chunkStore(t, nil)
	d := draft("http://a.example/x")
	var entries []*Entry
	for fill := range uint64(2) {
		d.Fill = fill + 1
		d.ResponseTime = d.ResponseTime.Add(time.Second)
		uploaded(t, s, d, bytesOf(d.Fill, 1<<21))
		entries = append(entries, s.Lookup(t.Context(), d.Key, nil).Entry)
	}
	for i, atMost := range []time.Duration{chunkGrace, 2 * time.Hour} {
		for _, key := range s.far.chunkKeys(entries[i]) {
			if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > atMost || i == 1 && ttl < time.Hour {
				t.Errorf("fetch %d: %s lives for %v", i, key, ttl)
			}
		}
		if got, err := read(t, s, entries[i], 0, 1<<21); err != nil || !bytes.Equal(got, bytesOf(uint64(i+1), 1<<21)) {
			t.Errorf("fetch %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// Of two uploads, the one whose response came first may end last: it does not take the place of the later one.
func TestEarlierUploadDoesNotReplaceALaterOne(t *testing.T) {
	s, client, m := chunkStore(t, func(o *Options) { o.NearMaxObject = 1 << 20 })
	d := draft("http://a.example/x")
	begin := time.Now().Add(-time.Minute)
	for _, d.Fill = range []uint64{2, 1} {
		d.ResponseTime = begin.Add(time.Duration(d.Fill) * time.Second)
		uploaded(t, s, d, bytesOf(d.Fill, 1<<21))
	}
	if n := count(t, m, "saves_total", "result", savedRefused); n != 1 {
		t.Errorf("%v refused", n)
	}
	for name, s := range map[string]*Store{"here": s, "another replica": newStore(t, farOptions(client))} {
		r := s.Lookup(t.Context(), d.Key, nil)
		if r.Entry == nil || r.Entry.Fill() != 2 {
			t.Fatalf("%s: %+v", name, r)
		}
		if got, err := read(t, s, r.Entry, 0, 1<<21); err != nil || !bytes.Equal(got, bytesOf(2, 1<<21)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// Freshening keeps the chunks, and lets them live as long as the entry.
func TestFreshenedChunksLiveOn(t *testing.T) {
	s, client, _ := chunkStore(t, func(o *Options) { o.NearMaxObject = 1 << 20 })
	d := draft("http://a.example/x")
	d.Fill = 7
	uploaded(t, s, d, bytesOf(7, 1<<21))
	e := s.Lookup(t.Context(), d.Key, nil).Entry
	fresh := e.Redraft()
	fresh.ResponseTime, fresh.KeepUntil = fresh.ResponseTime.Add(time.Second), fresh.KeepUntil.Add(time.Hour)
	if why := s.Save(mustEntry(t, fresh)); why != policy.None {
		t.Fatal(why)
	}
	if r := s.Lookup(t.Context(), d.Key, nil); r.Entry == nil || !r.Entry.KeepUntil().Equal(fresh.KeepUntil) {
		t.Errorf("at once: %+v", r)
	}
	flush(t, s)
	for _, key := range s.far.chunkKeys(e) {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl < 2*time.Hour {
			t.Errorf("%s lives for %v", key, ttl)
		}
	}
	// Without its chunks it is not saved again.
	s.near.cache.InvalidateAll()
	if err := client.Del(t.Context(), s.far.chunkKeys(e)[0]).Err(); err != nil {
		t.Fatal(err)
	}
	fresh.ResponseTime = fresh.ResponseTime.Add(time.Second)
	s.Save(mustEntry(t, fresh))
	flush(t, s)
	if r := s.Lookup(t.Context(), d.Key, nil); r.Entry != nil {
		t.Errorf("%+v", r)
	}
}

// An upstream that is faster than Redis is held back, so that its body can be stored through a queue that is shorter than it.
func TestUploadsFasterThanRedis(t *testing.T) {
	s, _, m := chunkStore(t, func(o *Options) { o.SaveBytes = 3 * chunkLen })
	var bodies [][]byte
	var drafts []Draft
	for i := range 3 {
		d := draft(fmt.Sprintf("http://a.example/large/%d", i))
		d.Fill = uint64(i) + 1
		drafts, bodies = append(drafts, d), append(bodies, bytesOf(d.Fill, 5<<20))
	}
	var all sync.WaitGroup
	for i, d := range drafts {
		all.Go(func() {
			u := s.Upload(d.Key, "", nil, d.Fill)
			u.patient = patience // of a machine with other work
			for piece := range slices.Chunk(bodies[i], 1<<20) {
				u.Write(piece)
			}
			if why := s.SaveUploaded(d, u, s.Mark()); why != policy.None {
				t.Error(why)
			}
		})
	}
	all.Wait()
	flush(t, s)
	for i, d := range drafts {
		r := s.Lookup(t.Context(), d.Key, nil)
		if r.Entry == nil {
			t.Fatalf("not found; dropped: %v", count(t, m, "saves_total", "result", savedDroppedFull))
		}
		if got, err := read(t, s, r.Entry, 0, r.Entry.BodyLen()); err != nil || !bytes.Equal(got, bodies[i]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if n := s.far.saver.waiting.Load() + s.far.saver.bytes.Load(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestUploadsThatEnd(t *testing.T) {
	s, client, m := chunkStore(t, func(o *Options) { o.SaveBytes = 3 * chunkLen; o.SaveWorkers = 1 })
	g := newGate("set", false)
	s.far.client.AddHook(g)
	d := draft("http://a.example/full")
	d.Fill = 1
	u := s.Upload(d.Key, "", nil, d.Fill)
	for u.Write(make([]byte, chunkLen)) && u.length < 1<<30 {
	}
	if why := s.SaveUploaded(d, u, s.Mark()); why != policy.StoreFull || count(t, m, "saves_total", "result", savedDroppedFull) != 1 {
		t.Errorf("%v", why)
	}
	g.open()
	flush(t, s)
	if r := s.Lookup(t.Context(), d.Key, nil); r.Entry != nil {
		t.Error("found")
	}

	d.Key.URL = "http://a.example/aborted"
	u = s.Upload(d.Key, "", nil, d.Fill)
	u.Write(make([]byte, 1000))
	u.Abort()
	flush(t, s)
	if s.far.saver.bytes.Load() != 0 {
		t.Errorf("%d bytes wait", s.far.saver.bytes.Load())
	}

	d.Key.URL = "http://a.example/forgotten"
	stamp := s.Mark()
	u = s.Upload(d.Key, "", nil, d.Fill)
	u.Write(make([]byte, 2*chunkLen))
	s.Forget(d.Key.URL)
	if why := s.SaveUploaded(d, u, stamp); why != policy.Stale {
		t.Errorf("%v", why)
	}
	flush(t, s)
	if n := len(client.Keys(t.Context(), "cp:[ev]:*").Val()); n != 0 {
		t.Errorf("%d entries", n)
	}
	for _, key := range client.Keys(t.Context(), "cp:b:*").Val() {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > chunkProvisional {
			t.Errorf("%s lives for %v", key, ttl)
		}
	}
}

func TestLargeBodiesWithoutRedis(t *testing.T) {
	s := newStore(t, Options{})
	if s.Upload(policy.Key{URL: "http://a.example/"}, "", nil, 1) != nil {
		t.Error("an upload to nowhere")
	}
	d := draft("http://a.example/x")
	d.Body = make([]byte, maxRedisBody+1)
	e := saved(t, s, d)
	if got, err := read(t, s, e, 5, maxRedisBody); err != nil || len(got) != maxRedisBody-5 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
