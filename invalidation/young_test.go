package invalidation

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// Where Redis has just begun, or begun anew, receipts are complete only when all that live would have registered again.
func TestReceiptsOfAYoungRedis(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *redistest.Server){
		"new":           func(*testing.T, *redistest.Server) {},
		"emptied":       func(t *testing.T, s *redistest.Server) { s.Admin().FlushAll(t.Context()) },
		"started again": func(_ *testing.T, s *redistest.Server) { s.Restart() },
		"without the list of replicas": func(t *testing.T, s *redistest.Server) {
			s.Admin().Del(t.Context(), "cp:{inv}:replicas")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			if name != "new" {
				server.Settle()
			}
			begin := time.Now()
			f := newFleet(t, server.URL, 1)[0]
			if name != "new" {
				begin = time.Now()
				lose(t, server)
				if r := purge(t, f, Purge{Kind: KindAll}, limit); !r.Complete() && !r.Young && len(r.Lagging) == 0 {
					t.Errorf("%+v", r)
				}
				await(t, "registered again", func() bool {
					list, err := f.Replicas(t.Context())
					return err == nil && len(list) == 1 && f.Registered()
				})
			}
			short, err := f.Purge(t.Context(), Purge{Kind: KindAll}, time.Second)
			if took := time.Since(begin); took < silence-time.Second && (err != nil || short.Complete() || !short.Young || !slices.Equal(short.Applied, []string{f.ID()})) {
				t.Errorf("after %v: %+v, %v", took, short, err)
			}
			r := purge(t, f, Purge{Kind: KindAll}, limit)
			if took := time.Since(begin); !r.Complete() || took < silence || took > silence+5*time.Second {
				t.Errorf("after %v: %+v", took, r)
			}
			begin = time.Now()
			if r := purge(t, f, Purge{Kind: KindAll}, limit); !r.Complete() || time.Since(begin) > time.Second {
				t.Errorf("settled: after %v, %+v", time.Since(begin), r)
			}
		})
	}
}

// The hole that this closes: Redis forgets all, and before the others notice a replica is started, and is asked to purge. It does not know that
// there are others, and its receipt is not complete before they have applied the purge.
func TestReceiptOfOneStartedWhenRedisHadForgottenTheOthers(t *testing.T) {
	server := redistest.StartSettled(t)
	fault := server.Fault()
	old := newFleet(t, fault.URL, 1)[0]
	fault.Hold() // it hears of nothing, and serves
	server.Admin().FlushAll(t.Context())
	fresh := newFleet(t, server.URL, 1, func(o *Options) { o.Instance = "fresh" })[0]
	m := old.Table().Mark()
	if r := purge(t, fresh, Purge{Kind: KindURL, Selector: "http://a.example/"}, 0); r.Complete() || !r.Young {
		t.Errorf("%+v", r)
	}
	fault.Heal()
	r := purge(t, fresh, Purge{Kind: KindURL, Selector: "http://a.example/"}, limit)
	if !r.Complete() || len(r.Applied) != 2 || !slices.Contains(r.Applied, old.ID()) {
		t.Errorf("%+v", r)
	}
	if old.Table().Floor() <= m.Number && !forbids(old, m, "http://a.example/") {
		t.Error("it serves what was purged")
	}
}

// A strict replica that is unknown serves until its lease is over: receipts of a strict one wait for that.
func TestReceiptsOfAYoungRedisWaitForLeases(t *testing.T) {
	server := redistest.Start(t)
	const lease = 4 * time.Second
	begin := time.Now()
	f := newFleet(t, server.URL, 1, func(o *Options) { o.Lease = lease })[0]
	if r := purge(t, f, Purge{Kind: KindAll}, limit); !r.Complete() || time.Since(begin) < lease+fenceMargin(lease) {
		t.Errorf("after %v: %+v", time.Since(begin), r)
	}
}

// A heartbeat that comes when its replica has left does not register it again; one of a replica that an operator has struck off does.
func TestLateHeartbeat(t *testing.T) {
	server := redistest.StartSettled(t)
	admin := server.Admin()
	f := newFleet(t, server.URL, 2)
	there := func() bool {
		return !strings.HasPrefix(admin.HGet(t.Context(), "cp:{inv}:replicas", f[0].ID()).Val(), leftMark)
	}
	if ok, err := f[1].Remove(t.Context(), f[0].ID()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	await(t, "registered again", there)
	if err := f[0].Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b, err := f[0].log.heartbeat(t.Context(), f[0].ID(), f[0].last, "test", 0, false)
	if err != nil || !b.accepted || there() {
		t.Errorf("%+v, %v, there %v", b, err, there())
	}
	if r := purge(t, f[1], Purge{Kind: KindAll}, limit); !r.Complete() || len(r.Applied) != 1 {
		t.Errorf("%+v", r)
	}
}

// What is noted beside the replicas is none of them, and stays.
func TestNoReplicaToStrikeOff(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	noted := func() string { return server.Admin().HGet(t.Context(), "cp:{inv}:replicas", runField).Val() }
	before := noted()
	for _, id := range []string{runField, "", "nobody", "nobody#1"} {
		if ok, err := f.Remove(t.Context(), id); ok || err != nil {
			t.Errorf("%q: %v, %v", id, ok, err)
		}
	}
	if now := noted(); before == "" || now != before {
		t.Errorf("%q, and %q before", now, before)
	}
}

// What is not known is not complete.
func TestReceiptOfNothing(t *testing.T) {
	for want, r := range map[bool]Receipt{false: {}, true: {Fenced: []string{"a"}}} {
		if r.Complete() != want {
			t.Errorf("%+v", r)
		}
	}
}
