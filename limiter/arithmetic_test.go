package limiter

import (
	"context"
	"log/slog"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"cacheproxy/redistest"
)

// counting is one of the two that count: this process, or a script of Redis. The acceptance suite is over both.
type counting interface {
	// take answers a question some microseconds after the last one. It returns the time of the answer in ticks, by the clock that decided.
	take(t *rapid.T, wait int64, q question) (answer, int64)
}

// inProcess counts with a clock of the test's.
type inProcess struct {
	m   measure
	s   state
	now int64 // microseconds
}

func (p *inProcess) take(_ *rapid.T, wait int64, q question) (answer, int64) {
	p.now += wait
	return p.m.take(&p.s, p.now/p.m.tick, q), p.now / p.m.tick
}

// inRedis counts with a script, of which TIME and the time of expiry are the test's: a key expires when the test says so.
type inRedis struct {
	m      measure
	client *redis.Client
	script string
	now    int64 // microseconds
}

// testTime puts a clock of the test's in the place of that of Redis: the last of the arguments, in microseconds. PEXPIRETIME and PEXPIRE are
// by the clock of the server, and are moved to the test's.
func testTime(source string) string {
	source = strings.Replace(source, "redis.call('TIME')", "{math.floor(ARGV[11] / 1000000), ARGV[11] % 1000000}", 1)
	source = strings.ReplaceAll(source, "redis.call('PEXPIRETIME', KEYS[1])", "tonumber(redis.call('GET', KEYS[1] .. 'ends') or -1)")
	expire := regexp.MustCompile(`redis\.call\('PEXPIRE', KEYS\[1\], (.*)\)( --.*)?\n`)
	source = expire.ReplaceAllString(source, "redis.call('SET', KEYS[1] .. 'ends', string.format('%.0f', math.floor(ARGV[11] / 1000) + $1))\n")
	// What has expired by the test's clock is not there any more.
	head, body, _ := strings.Cut(source, "\n\n")
	return head + `
local ends = redis.call('GET', KEYS[1] .. 'ends')
if ends and math.floor(ARGV[11] / 1000) > tonumber(ends) then
	redis.call('DEL', KEYS[1], KEYS[1] .. 'ends')
end

` + body
}

func (p *inRedis) take(t *rapid.T, wait int64, q question) (answer, int64) {
	p.now += wait
	one := &limit{measure: p.m}
	i := inquiry{limit: one, question: q}
	one.constant = [4]any{p.m.limit, p.m.window, p.m.burst, p.m.tick}
	i.cmd = p.client.Eval(context.Background(), p.script, []string{"k"}, append(i.arguments(), p.now)...)
	if i.read(); i.err != nil {
		t.Fatalf("%v", i.err)
	}
	return i.answer, p.now / p.m.tick
}

// oracle says what a limit admits in the plainest way: from the list of all that was ever admitted, with real numbers.
type oracle struct {
	m        measure
	admitted []grantedAt
	opened   int64 // fixed: when the window began, in ticks
	level    float64
	at       int64
}

type grantedAt struct{ at, tokens int64 }

// room is how many tokens there are at now.
func (o *oracle) room(now int64) int64 {
	m := o.m
	switch m.algorithm {
	case Sliding:
		var current, previous int64
		for _, g := range o.admitted {
			switch g.at / m.window {
			case now / m.window:
				current += g.tokens
			case now/m.window - 1:
				previous += g.tokens
			}
		}
		share := 1 - float64(now%m.window)/float64(m.window)
		return int64(math.Floor(float64(m.limit-current) - float64(previous)*share + 1e-9))
	case GCRA:
		level := o.level - float64(now-o.at)*float64(m.limit)/float64(m.window)
		return int64(math.Floor(float64(m.burst) - max(0, level) + 1e-9))
	default:
		var used int64
		for _, g := range o.admitted {
			if g.at >= o.opened && now < o.opened+m.window {
				used += g.tokens
			}
		}
		return m.limit - used
	}
}

func (o *oracle) admit(now, tokens int64) {
	if o.m.algorithm == Fixed && (len(o.admitted) == 0 || now >= o.opened+o.m.window) {
		o.opened = now
	}
	if o.m.algorithm == GCRA {
		o.level = max(0, o.level-float64(now-o.at)*float64(o.m.limit)/float64(o.m.window)) + float64(tokens)
		o.level = min(o.level, float64(o.m.burst)) // a bucket is not more than full
		o.at = now
	}
	o.admitted = append(o.admitted, grantedAt{now, tokens})
}

func anyMeasure(t *rapid.T, algorithm Algorithm) measure {
	s := Spec{
		Limit: rapid.Int64Range(1, 60).Draw(t, "limit"), Window: time.Duration(rapid.Int64Range(10, 5000).Draw(t, "window")) * time.Millisecond,
		Algorithm: algorithm,
	}
	if algorithm == GCRA {
		s.Burst = rapid.Int64Range(0, 60).Draw(t, "burst")
	}
	return measureOf(&s)
}

// accept is the acceptance suite: what every implementation does, against the oracle.
func accept(t *testing.T, algorithm Algorithm, start func(*rapid.T, measure) counting) {
	t.Run("admits what the oracle does", rapid.MakeCheck(func(t *rapid.T) {
		m := anyMeasure(t, algorithm)
		count, o := start(t, m), &oracle{m: m}
		for range rapid.IntRange(1, 40).Draw(t, "requests") {
			q := question{cost: rapid.Int64Range(1, max(1, m.burst/3)).Draw(t, "cost"), need: max(0, rapid.Int64Range(-20, 20).Draw(t, "need"))}
			q.most = q.cost + q.need + max(0, rapid.Int64Range(-20, 20).Draw(t, "more"))
			a, now := count.take(t, rapid.Int64Range(0, m.window*m.tick/4).Draw(t, "wait"), q)
			room := o.room(now)
			switch {
			case (a.granted >= q.cost) != (q.cost <= room):
				t.Fatalf("%+v: granted %d of %d where there is room for %d", m, a.granted, q.cost, room)
			case a.granted > q.most || a.granted > room:
				t.Fatalf("%+v: granted %d of %d, of %d at the most", m, a.granted, room, q.most)
			case a.granted > 0 && a.granted < min(room, q.cost+q.need):
				t.Fatalf("%+v: granted %d of %d, and others need %d", m, a.granted, room, q.need)
			case a.granted > q.cost+q.need && room-a.granted < (m.burst+9)/10:
				t.Fatalf("%+v: %d leased where %d are left: the last tenth is not", m, a.granted-q.cost-q.need, room-a.granted)
			}
			if a.granted > 0 {
				o.admit(now, a.granted)
			}
			if left := max(0, o.room(now)); a.left != left {
				t.Fatalf("%+v: says that %d are left, of %d", m, a.left, left)
			}
			if a.granted == 0 && o.room(now+a.retry) < q.cost || a.granted == 0 && o.room(now+a.retry-1) >= q.cost {
				t.Fatalf("%+v: refuses %d for %d ticks, when there is room for %d, and a tick before for %d", m, q.cost, a.retry,
					o.room(now+a.retry), o.room(now+a.retry-1))
			}
			if whole, sooner := o.room(now+a.reset), o.room(now+a.reset-1); whole != m.burst || a.reset > 0 && sooner == m.burst && algorithm != Sliding {
				t.Fatalf("%+v: all is there again in %d ticks, when there is room for %d, and a tick before for %d", m, a.reset, whole, sooner)
			}
		}
	}))
	t.Run("counts what is owed, and what is given back, in its window", rapid.MakeCheck(func(t *rapid.T) {
		m := anyMeasure(t, algorithm)
		count, o := start(t, m), &oracle{m: m}
		var tag, held int64
		for range rapid.IntRange(1, 40).Draw(t, "requests") {
			q := question{owed: rapid.Int64Range(0, 2).Draw(t, "owed")}
			if held > 0 && algorithm != GCRA {
				q.back, q.backTag = rapid.Int64Range(0, held).Draw(t, "back"), tag
			}
			a, now := count.take(t, rapid.Int64Range(0, m.window*m.tick/2).Draw(t, "wait"), q)
			o.giveBack(now, q)
			if q.owed > 0 {
				o.admit(now, q.owed)
			}
			if left := max(0, o.room(now)); a.left != left {
				t.Fatalf("%+v: says that %d are left, of %d, after %+v", m, a.left, left, q)
			}
			if a.tag != tag {
				tag, held = a.tag, 0
			}
			if held = max(0, held-q.back) + q.owed; q.owed == 0 && held > 0 {
				held = min(held, o.inWindow(now))
			}
		}
	}))
}

// giveBack takes tokens out of the window of the question's tag.
func (o *oracle) giveBack(now int64, q question) {
	for i := len(o.admitted) - 1; i >= 0 && q.back > 0; i-- {
		g := &o.admitted[i]
		same := g.at >= o.opened && now < o.opened+o.m.window
		if o.m.algorithm == Sliding {
			same = g.at/o.m.window == q.backTag
		}
		if same {
			n := min(q.back, g.tokens)
			g.tokens -= n
			q.back -= n
		}
	}
}

// inWindow is what was admitted in the window of now.
func (o *oracle) inWindow(now int64) (n int64) {
	for _, g := range o.admitted {
		if o.m.algorithm == Fixed && g.at >= o.opened && now < o.opened+o.m.window || o.m.algorithm == Sliding && g.at/o.m.window == now/o.m.window {
			n += g.tokens
		}
	}
	return n
}

func TestArithmetic(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []Algorithm{Fixed, Sliding, GCRA} {
		t.Run(string(algorithm)+" in the process", func(t *testing.T) {
			accept(t, algorithm, func(_ *rapid.T, m measure) counting { return &inProcess{m: m, now: 1_000_000_000} })
		})
	}
	server := redistest.Start(t)
	client := server.Client()
	for _, algorithm := range []Algorithm{Fixed, Sliding, GCRA} {
		t.Run(string(algorithm)+" in Redis", func(t *testing.T) {
			script := testTime(sourceOf[algorithm])
			accept(t, algorithm, func(t *rapid.T, m measure) counting {
				if err := client.Del(context.Background(), "k", "kends").Err(); err != nil {
					t.Fatal(err)
				}
				return &inRedis{m: m, client: client, script: script, now: 1_700_000_000_000_000}
			})
		})
	}
}

// Numbers at the end of what is allowed are exact in Lua too.
func TestArithmeticOfLargeNumbers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client()
	for _, s := range []Spec{
		{Limit: exact / 4, Window: time.Hour},
		{Limit: 2_500_000, Window: time.Hour, Algorithm: Sliding},
		{Limit: 1_000_000, Window: 24 * time.Hour, Algorithm: Sliding},
		{Limit: 2_500_000, Window: time.Hour, Algorithm: GCRA},
		{Limit: 1, Burst: 140_000, Window: 366 * 24 * time.Hour, Algorithm: GCRA},
	} {
		m := measureOf(&s)
		rapid.Check(t, func(t *rapid.T) {
			if err := client.Del(context.Background(), "k", "kends").Err(); err != nil {
				t.Fatal(err)
			}
			here := &inProcess{m: m, now: 1_700_000_000_000_000}
			there := &inRedis{m: m, client: client, script: testTime(sourceOf[m.algorithm]), now: here.now}
			for range 8 {
				q := question{cost: rapid.Int64Range(1, m.burst).Draw(t, "cost"), owed: rapid.Int64Range(0, 3).Draw(t, "owed")}
				q.most = q.cost
				wait := rapid.Int64Range(0, m.window*m.tick).Draw(t, "wait")
				a, _ := here.take(t, wait, q)
				b, _ := there.take(t, wait, q)
				if m.algorithm == Fixed {
					a.tag, b.tag = 0, 0 // in the process it is a time of another clock
				}
				if a != b {
					t.Fatalf("%+v: %+v in the process, %+v in Redis, to %+v", m, a, b, q)
				}
			}
		})
	}
}

// quiet keeps the log out of the tests' output.
var quiet = slog.New(slog.DiscardHandler)
