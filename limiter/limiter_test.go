package limiter

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/metrics"
	"cacheproxy/redistest"
)

// A client that is reset may ask again everywhere: on the replica that refused it too, and on one that was cut off meanwhile.
func TestReset(t *testing.T) {
	t.Parallel()
	s := server(t)
	fault := s.Fault()
	for _, accuracy := range []Accuracy{Exact, Leased} {
		spec := Spec{Name: "per-client", Limit: 60, Window: time.Hour, Accuracy: accuracy}
		all := fleet(t, 3, s.Addr(), spec)
		apart := newReplica(t, fault.Addr(), nil, spec)
		client := "192.0.2.7"
		if n := offer(t, append(all, apart), 1000, nil); n > 60 {
			t.Errorf("%s: %d admitted", accuracy, n)
		}
		for _, r := range all {
			await(t, "refused", func() bool { return !r.admits(t, client) }) // leases come back
		}
		await(t, "refused by the one apart", func() bool { return !apart.admits(t, client) })
		told, err := all[0].Reset(t.Context(), "per-client", client)
		if err != nil || told != 4 {
			t.Errorf("%s: %d replicas were told, %v", accuracy, told, err)
		}
		for i, r := range append(all, apart) {
			await(t, fmt.Sprintf("admitted by replica %d", i), func() bool { return r.admits(t, client) })
		}
		await(t, "refused by the one apart", func() bool { return !apart.admits(t, client) })
		fault.Cut()
		await(t, "deaf", func() bool {
			n, err := s.Client().PubSubNumSub(t.Context(), "cp:limits").Result()
			return err == nil && n["cp:limits"] == 3
		})
		if _, err := all[0].Reset(t.Context(), "per-client", client); err != nil {
			t.Error(err)
		}
		fault.Heal()
		await(t, "admitted by the one that was cut off", func() bool { return apart.admits(t, client) })
		if _, err := all[0].Reset(t.Context(), "per-client", client); err != nil {
			t.Error(err)
		}
		for _, r := range append(all, apart) {
			_ = r.Close(t.Context())
		}
		s.Client().FlushAll(t.Context())
	}
}

// A flood of clients takes the memory that it may, shares one count beyond, and resets nobody.
func TestFlood(t *testing.T) {
	const most, flood = 20_000, 1_000_000
	r := newReplica(t, "", nil, Spec{Name: "per-client", Limit: 5, Window: time.Hour, MaxClients: most})
	if n := r.admitted(t, "192.0.2.7", 10); n != 5 {
		t.Fatalf("%d admitted", n)
	}
	before := heap()
	a := from("2001:db8::")
	set, _ := r.Current().All()
	held := new(Reservation)
	alone, common := 0, 0
	for i := range flood {
		bytes := a.Client.As16()
		bytes[4], bytes[5], bytes[6], bytes[7] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		a.Client = netipFrom16(bytes)
		set.Reserve(context.Background(), a, held)
		if held.Refused() {
			common++
		} else {
			alone++
		}
	}
	// The overflow admits 5 more, and has an entry itself.
	if alone != most-1+5 || common != flood-alone {
		t.Errorf("%d clients were admitted, and %d refused", alone, common)
	}
	if grown := heap() - before; grown > most*500 {
		t.Errorf("the heap grew by %d bytes for %d clients", grown, most)
	}
	told := r.Summaries()[0]
	if told.Clients != most+1 || told.Overflow != flood-most+1 {
		t.Errorf("%d clients, %d requests in common", told.Clients, told.Overflow)
	}
	if r.admits(t, "192.0.2.7") {
		t.Error("the flood has reset who was refused before")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Who has all of the limit again is forgotten, and makes room.
func TestEndedClientsMakeRoom(t *testing.T) {
	var windows atomic.Int64
	began := time.Now()
	r := newReplica(t, "", func(o *Options) {
		o.Now = func() time.Time { return began.Add(time.Duration(windows.Load()) * time.Minute) }
	},
		Spec{Name: "per-client", Limit: 1, Window: time.Minute, MaxClients: 64})
	for range 50 {
		windows.Add(1)
		a := from("192.0.2.0")
		for range 40 {
			a.Client = a.Client.Next()
			if r.reserve(t, a).Refused() {
				t.Fatalf("%v refused", a.Client)
			}
		}
		m := r.Current().all[0]
		for i := range m.table.shards {
			m.tendShard(&m.table.shards[i], r.now()+time.Minute.Microseconds(), nil)
		}
		if n := r.Summaries()[0].Clients; n != 0 {
			t.Fatalf("%d clients are known after their window", n)
		}
	}
}

// Idle leases are given back after a second, all of them when the process ends, and what is leased of a limit that is not used any more too.
func TestLeasesAreGivenBack(t *testing.T) {
	t.Parallel()
	s := server(t)
	spec := Spec{Name: "per-client", Limit: 1000, Window: time.Hour}
	watch := newReplica(t, s.Addr(), nil, spec)
	remaining := func(want int64) func() bool {
		return func() bool {
			told, err := watch.Standing(t.Context(), "per-client", "192.0.2.7")
			return err == nil && told.Remaining == want
		}
	}
	r := newReplica(t, s.Addr(), nil, spec)
	r.admitted(t, "192.0.2.7", 10)
	if remaining(990)() {
		t.Error("nothing was leased")
	}
	await(t, "given back when idle", remaining(990))
	r.admitted(t, "192.0.2.7", 10)
	other, err := r.Compile([]Spec{{Name: "per-client", Limit: 2000, Window: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	r.Adopt(other)
	await(t, "given back when the limit was changed", remaining(980))
	last := newReplica(t, s.Addr(), nil, spec)
	last.admitted(t, "192.0.2.7", 10)
	if err := last.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !remaining(970)() {
		t.Error("not given back at the end")
	}
}

// A limit that is as it was keeps its counts over a reload; another begins anew.
func TestCompileKeepsCounts(t *testing.T) {
	spec := Spec{Name: "per-client", Limit: 5, Window: time.Hour}
	r := newReplica(t, "", nil, spec)
	r.admitted(t, "192.0.2.7", 5)
	next, err := r.Compile([]Spec{{Name: "new", Limit: 1, Window: time.Hour}, spec})
	if err != nil {
		t.Fatal(err)
	}
	r.Adopt(next)
	if held := r.reserve(t, from("192.0.2.7")); !held.Refused() || held.Limit() != "per-client" {
		t.Errorf("after a reload: refused %v by %q", held.Refused(), held.Limit())
	}
	shadow := spec
	shadow.Shadow, shadow.Fields = true, []string{}
	if next, err = r.Compile([]Spec{shadow}); err != nil {
		t.Fatal(err)
	}
	r.Adopt(next)
	if held := r.reserve(t, from("192.0.2.7")); held.Refused() || held.claims[0].verdict != denied {
		t.Error("as a shadow it does not keep its counts")
	}
	spec.Limit = 6
	if next, err = r.Compile([]Spec{spec}); err != nil {
		t.Fatal(err)
	}
	r.Adopt(next)
	if n := r.admitted(t, "192.0.2.7", 10); n != 6 {
		t.Errorf("of the changed limit %d admitted", n)
	}
	if _, err := r.Compile([]Spec{{Name: "bad name", Limit: 1, Window: time.Hour}, {Name: "x", Window: time.Hour}}); err == nil ||
		err.Error() != "limiter: limits[0].name: \"bad name\" is not a name of at most 64 letters, digits, - and _\n"+
			"limiter: limits[1].limit: must be at least 1: it is how many requests a window admits" {
		t.Errorf("%v", err)
	}
}

// What a request has cost in the end is what counts, in the process, leased and exact.
func TestCosts(t *testing.T) {
	t.Parallel()
	s := server(t)
	for _, c := range []struct {
		name     string
		address  string
		accuracy Accuracy
		by       Algorithm
	}{
		{"in the process", "", Exact, Fixed}, {"exact", s.Addr(), Exact, Fixed}, {"leased", s.Addr(), Leased, Fixed},
		{"sliding in the process", "", Exact, Sliding}, {"sliding", s.Addr(), Exact, Sliding}, {"gcra in the process", "", Exact, GCRA}, {"gcra", s.Addr(), Leased, GCRA},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := strings.ReplaceAll(c.name, " ", "-")
			r := newReplica(t, c.address, nil, Spec{
				Name: name, Limit: 1000, Window: 24 * time.Hour, Accuracy: c.accuracy, Algorithm: c.by,
				Cost: map[string]int64{"hit": 0, "miss": 5, "error": 1, "POST": 3},
			})
			a := from("192.0.2.7")
			spend := func(method string, o Outcome) {
				a.Request.Method = method
				held := r.reserve(t, a)
				if held.Refused() {
					t.Fatal("refused")
				}
				held.Settle(o)
				held.Settle(Hit) // does nothing any more
			}
			for range 20 {
				spend("GET", Hit)
				spend("GET", Miss)
				spend("GET", Error)
				spend("POST", Miss)
				spend("POST", Hit)
			}
			want := int64(1000 - 20*(5+1+15))
			await(t, "settled", func() bool {
				told, err := r.Standing(t.Context(), name, "192.0.2.7")
				return err == nil && (told.Remaining == want || c.by == GCRA && told.Remaining == want+1)
			})
		})
	}
}

// A shadow refuses nobody and tells nothing; exempt clients and keys are not counted.
func TestShadowAndExempt(t *testing.T) {
	m := metrics.New()
	r := newReplica(t, "", func(o *Options) { o.Metrics = m },
		Spec{Name: "shadow", Limit: 1, Window: time.Hour, Shadow: true},
		Spec{
			Name: "real", Key: []string{"client", "header.Tier"}, Limit: 5, Window: time.Hour,
			ExemptClients: prefixes("10.0.0.0/8", "2001:db8::/32"), ExemptKeys: []string{"192.0.2.9,gold"},
		})
	if n := r.admitted(t, "192.0.2.7", 10); n != 5 {
		t.Errorf("%d admitted", n)
	}
	held := r.reserve(t, from("10.1.2.3"))
	wantFields(t, held, map[string]string{})
	if n := r.admitted(t, "10.1.2.3", 10); n != 10 {
		t.Errorf("of an exempt network %d admitted", n)
	}
	if n := r.admitted(t, "2001:db8:1::", 10); n != 10 {
		t.Errorf("of an exempt network %d admitted", n)
	}
	gold := from("192.0.2.9")
	gold.Request.Header.Set("Tier", "gold")
	for range 10 {
		if r.reserve(t, gold).Refused() {
			t.Error("an exempt key was refused")
		}
	}
	if n := r.admitted(t, "192.0.2.9", 10); n != 5 {
		t.Errorf("without what exempts it: %d admitted", n)
	}
	text := exposition(t, m)
	for _, line := range []string{
		`cacheproxy_limit_total{limit="real",result="allowed"} 6`, `cacheproxy_limit_total{limit="real",result="near"} 4`,
		`cacheproxy_limit_total{limit="real",result="refused"} 10`, `cacheproxy_limit_total{limit="real",result="exempt"} 31`,
		`cacheproxy_limit_total{limit="shadow",result="shadow"} 47`, `cacheproxy_limit_decisions_total{by="process",limit="real"} 20`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}

func exposition(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// Every script works in a Cluster, where the keys of a request's limits are on several nodes, and so do resets and the busiest.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0)
	client := clusterClient(t, c.Nodes)
	specs := []Spec{
		{Name: "a", Limit: 200, Window: time.Hour, Accuracy: Exact}, {Name: "b", Limit: 200, Window: time.Hour},
		{Name: "c", Limit: 200, Window: time.Hour, Algorithm: Sliding}, {Name: "d", Limit: 100, Window: time.Hour, Algorithm: GCRA, Accuracy: Exact},
	}
	all := make([]*replica, 2)
	for i := range all {
		all[i] = newReplica(t, "", func(o *Options) { o.Redis = client }, specs...)
	}
	if n := offer(t, all, 1000, nil); n != 100 {
		t.Errorf("%d admitted, want 100", n)
	}
	await(t, "counted", func() bool {
		busy, err := all[0].Busiest(t.Context(), "d", 10)
		return err == nil && len(busy) == 1 && busy[0].Key == "192.0.2.7" && busy[0].Asked > 100 && busy[0].Refused > 0
	})
	if told, err := all[1].Reset(t.Context(), "d", "192.0.2.7"); err != nil || told < 1 {
		t.Errorf("reset: %d, %v", told, err)
	}
	for i, r := range all {
		await(t, fmt.Sprintf("admitted by %d", i), func() bool { return r.admits(t, "192.0.2.7") })
	}
}

// No key in Redis is without expiry, whatever a limit does.
func TestKeysExpire(t *testing.T) {
	t.Parallel()
	s := server(t)
	r := newReplica(t, s.Addr(), nil,
		Spec{Name: "a", Limit: 50, Window: time.Hour, Cost: map[string]int64{"hit": 0}}, Spec{Name: "b", Limit: 50, Window: time.Hour, Algorithm: Sliding},
		Spec{Name: "c", Limit: 50, Window: time.Hour, Algorithm: GCRA})
	a := from("192.0.2.0")
	for i := range 300 {
		if i%3 == 0 {
			a.Client = a.Client.Next()
		}
		r.reserve(t, a).Settle(Hit)
	}
	client := s.Client()
	await(t, "told who is busiest", func() bool {
		n, err := client.Exists(t.Context(), r.busyKey(t, "a")).Result()
		return err == nil && n == 1
	})
	wantExpiry(t, s, 300)
}

func (r *replica) busyKey(t *testing.T, name string) string {
	t.Helper()
	asked, _ := r.Current().find(name).busyKeys(time.Now().Unix() / 60)
	return asked
}

// wantExpiry looks at all keys, of which there are at least so many.
func wantExpiry(t *testing.T, s *redistest.Server, least int) {
	t.Helper()
	client := s.Client()
	keys, cursor := 0, uint64(0)
	for {
		page, next, err := client.Scan(t.Context(), cursor, "*", 1000).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range page {
			keys++
			if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl == -1 {
				t.Errorf("%s has no expiry: %v, %v", key, ttl, err)
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if keys < least {
		t.Errorf("there are %d keys, want at least %d", keys, least)
	}
}

// A limit that is given another algorithm begins anew, and is not in the way of its own keys.
func TestOtherAlgorithm(t *testing.T) {
	t.Parallel()
	s := server(t)
	for _, algorithm := range []Algorithm{Fixed, Sliding, Fixed, GCRA, Sliding, GCRA, Fixed} {
		r := newReplica(t, s.Addr(), nil, Spec{Name: "per-client", Limit: 5, Window: time.Hour, Algorithm: algorithm, Accuracy: Exact})
		if n := r.admitted(t, "192.0.2.7", 10); n != 5 {
			t.Errorf("%s: %d admitted", algorithm, n)
		}
		_ = r.Close(t.Context())
	}
}
