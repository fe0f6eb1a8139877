package limiter

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	good := func(change func(*Spec)) Spec {
		s := Spec{Name: "x", Limit: 10, Window: time.Minute}
		change(&s)
		return s
	}
	for _, c := range []struct {
		want string
		spec Spec
	}{
		{"", good(func(*Spec) {})},
		{"[0].name: is missing: rules name limits by it", good(func(s *Spec) { s.Name = "" })},
		{`[0].name: "a{b" is not a name of at most 64 letters, digits, - and _`, good(func(s *Spec) { s.Name = "a{b" })},
		{"[0].limit: must be at least 1: it is how many requests a window admits", good(func(s *Spec) { s.Limit = 0 })},
		{"[0].limit: must be at least 1: it is how many requests a window admits", good(func(s *Spec) { s.Limit = -1 })},
		{"[0].limit: is more than can be counted in such a window: at most 2251799813685248", good(func(s *Spec) { s.Limit = math.MaxInt64 })},
		{"[0].limit: is more than can be counted in such a window: at most 142418", good(func(s *Spec) { s.Limit, s.Window, s.Algorithm = 1e10, 8784*time.Hour, GCRA })},
		{"[0].window: is missing, or 0: write 1s, 1m or 1h", good(func(s *Spec) { s.Window = 0 })},
		{"[0].window: is out of range: 10ms to 8784h, which are 366 days", good(func(s *Spec) { s.Window = 9 * time.Millisecond })},
		{"[0].window: is out of range: 10ms to 8784h, which are 366 days", good(func(s *Spec) { s.Window = -time.Second })},
		{`[0].algorithm: "leaky" is not one of fixed, sliding, gcra`, good(func(s *Spec) { s.Algorithm = "leaky" })},
		{`[0].accuracy: "some" is not one of leased, exact`, good(func(s *Spec) { s.Accuracy = "some" })},
		{`[0].on_outage: "panic" is not one of local, divided, open, closed`, good(func(s *Spec) { s.OnOutage = "panic" })},
		{"[0].burst: is for algorithm gcra alone", good(func(s *Spec) { s.Burst = 3 })},
		{"[0].burst: is negative", good(func(s *Spec) { s.Burst, s.Algorithm = -3, GCRA })},
		{`[0].key[1]: unknown "cliemt" (known: client, host, method, rule, api_key, header.NAME, cookie.NAME)`, good(func(s *Spec) { s.Key = []string{"host", "cliemt"} })},
		{`[0].key[0]: "header." names no field: write header.NAME`, good(func(s *Spec) { s.Key = []string{"header."} })},
		{`[0].key[0]: "header.host": write host`, good(func(s *Spec) { s.Key = []string{"header.host"} })},
		{"[0].key[1]: host is listed twice", good(func(s *Spec) { s.Key = []string{"host", "host"} })},
		{"[0].key: names nothing: [client] counts by address", good(func(s *Spec) { s.Key = []string{} })},
		{"[0].status: 200 is no status of a refusal: 400 to 599, mostly 429", good(func(s *Spec) { s.Status = 200 })},
		{`[0].fields[0]: "x" is not one of ratelimit, x-ratelimit`, good(func(s *Spec) { s.Fields = []string{"x"} })},
		{"[0].max_clients: is negative", good(func(s *Spec) { s.MaxClients = -1 })},
		{"[0].cost.mis: is neither hit, miss or error, nor a method in capitals", good(func(s *Spec) { s.Cost = map[string]int64{"mis": 1} })},
		{"[0].cost.hit: is negative", good(func(s *Spec) { s.Cost = map[string]int64{"hit": -1} })},
		{"[0].cost: is 0 for every request, so that nothing is limited", good(func(s *Spec) { s.Cost = map[string]int64{"hit": 0, "miss": 0, "error": 0} })},
		{"[0].cost: is up to 12 for one request, and a client never has more than 10", good(func(s *Spec) { s.Cost = map[string]int64{"miss": 4, "POST": 3} })},
		{"[0].cost: is up to 4611686018427387903 for one request, and a client never has more than 10", good(func(s *Spec) {
			s.Cost = map[string]int64{"miss": math.MaxInt64 / 2, "POST": math.MaxInt64 / 2}
		})},
	} {
		var told []string
		for _, m := range Check([]Spec{c.spec}) {
			told = append(told, m.Error())
		}
		if got := strings.Join(told, "\n"); got != c.want {
			t.Errorf("%+v:\n%s\nwant\n%s", c.spec, got, c.want)
		}
	}
	twice := Check([]Spec{good(func(*Spec) {}), good(func(*Spec) {})})
	if len(twice) != 1 || twice[0].Error() != `[1].name: "x" is also the name of limits[0]` {
		t.Errorf("%v", twice)
	}
}
