package limiter

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
)

var (
	//go:embed fixed.lua
	fixedSource string
	//go:embed sliding.lua
	slidingSource string
	//go:embed gcra.lua
	gcraSource string

	sourceOf = map[Algorithm]string{Fixed: fixedSource, Sliding: slidingSource, GCRA: gcraSource}
)

// shared is the Redis that replicas share.
type shared struct {
	limiter *Limiter
	client  redis.UniversalClient
	breaker *breaker.Breaker
	prefix  string

	ending context.Context
	end    context.CancelFunc
	mu     sync.Mutex
	heard  *redis.PubSub
	deaf   bool // it hears of resets no more
}

// breakerTarget is the label of the breaker's metric.
const breakerTarget = "limits"

func newShared(l *Limiter) *shared {
	s := &shared{limiter: l, client: l.opt.Redis, prefix: l.opt.Prefix}
	s.ending, s.end = context.WithCancel(context.Background())
	probe := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, l.opt.Timeout)
		defer cancel()
		err := s.client.Exists(ctx, s.prefix+":r:probe").Err()
		if err != nil && breaker.Classify(err).Answered {
			return nil
		}
		return err
	}
	s.breaker = breaker.New(breakerTarget, l.opt.Breaker, probe, l.opt.Metrics, l.opt.Log)
	return s
}

// arguments are what the script of a limit is given each time.
type arguments struct {
	source, digest string // of the script
	begin          string // of its keys
	constant       [4]any // its first arguments
}

func newArguments(m *limit) arguments {
	source := sourceOf[m.algorithm]
	return arguments{
		source: source, digest: redis.NewScript(source).Hash(), begin: m.limiter.opt.Prefix + ":r:{" + m.spec.Name + ":",
		constant: [4]any{m.limit, m.window, m.burst, m.tick},
	}
}

func (m *limit) redisKey(key string) string { return m.begin + key + "}" }

// inquiry is one question under way.
type inquiry struct {
	limit    *limit
	key      string // in Redis
	question question
	answer   answer
	err      error

	claim  *claim // for whom it is asked; nil for what is only told
	shard  *shard
	entry  *entry
	resets uint32 // of the entry, when it was asked
	cmd    *redis.Cmd
}

// ask has Redis decide the claims that are undecided, or those that already ask for the same; what is then undecided is decided without it.
func (r *Reservation) ask(ctx context.Context, l *Limiter) {
	began := l.opt.Now()
	// The answer is of use also when the client has left meanwhile: others wait for it.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.opt.Timeout)
	defer cancel()
	defer r.release()
	var few [MaxLimits]inquiry
	for limited.Err() == nil {
		if inquiries := r.lead(l, few[:0]); len(inquiries) > 0 {
			l.inquire(limited, inquiries)
		}
		if !r.wait(limited) {
			break
		}
	}
	r.fallBack(l)
	r.waited = l.opt.Now().Sub(began)
}

// inquire asks, and tells those that wait, also when that panics.
func (l *Limiter) inquire(ctx context.Context, list []inquiry) {
	sent, asked := l.now(), false
	defer func() {
		for i := range list {
			if !asked {
				list[i].err = errPanicked
			}
			list[i].deliver(sent, l.now())
		}
	}()
	l.shared.exchange(ctx, list)
	asked = true
}

var errPanicked = errors.New("limiter: asking Redis panicked")

// lead decides what can be decided by now, joins the questions under way, and returns those that this request asks itself.
func (r *Reservation) lead(l *Limiter, into []inquiry) []inquiry {
	now := l.now()
	for i := range r.n {
		c := &r.claims[i]
		if c.verdict != undecided || c.joined != nil {
			continue
		}
		c.shard.mu.Lock()
		e := c.entry
		if e.decide(c, now, c.limit.answers(e)); c.verdict == undecided {
			if e.round == nil {
				e.round = &round{done: make(chan struct{})}
				into = append(into, inquiry{
					limit: c.limit, key: c.limit.redisKey(e.key), question: e.question(c.limit, c.cost, now),
					claim: c, shard: c.shard, entry: e, resets: e.resets,
				})
			} else {
				c.joined = e.round
				e.need += c.cost
			}
		}
		c.shard.mu.Unlock()
	}
	return into
}

// deliver takes over what came of a question, for its claim and for those that wait.
func (q *inquiry) deliver(sent, now int64) {
	c, m := q.claim, q.limit
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	e := c.entry
	e.round.failed = q.err != nil
	close(e.round.done)
	e.round = nil
	if q.err != nil {
		q.owe()
		e.decide(c, now, false)
		return
	}
	if e.resets == q.resets {
		e.learn(m, &q.question, &q.answer, sent, now)
	}
	a := &q.answer
	c.tag, c.retry, c.reset = a.tag, max(1, a.retry*m.tick-(now-sent)), max(0, a.reset*m.tick-(now-sent))
	c.left = a.left
	switch {
	case a.granted >= c.cost:
		if e.resets == q.resets && e.tokens >= c.cost {
			e.tokens -= c.cost
			c.left += e.tokens
		}
		e.used = now
		e.note(c, now)
		c.settleAs(admitted, fromRedis)
	default:
		c.settleAs(denied, fromRedis)
	}
}

// owe keeps what could not be told to be told later: unless it may be that Redis has counted it, and was only too slow to say so. The shard is
// locked.
func (q *inquiry) owe() {
	if q.entry.resets == q.resets && (breaker.Classify(q.err).Cause != "timeout" || errors.Is(q.err, redis.ErrPoolTimeout)) {
		q.entry.owed += q.question.owed
	}
}

// wait waits for the questions of others that were joined. It reports whether something is left to be decided.
func (r *Reservation) wait(ctx context.Context) (more bool) {
	for i := range r.n {
		c := &r.claims[i]
		if c.joined == nil {
			more = more || c.verdict == undecided
			continue
		}
		failed := false
		select {
		case <-c.joined.done:
			failed = c.joined.failed && !c.limit.limiter.shared.breaker.Allow() // else it may have had less time
		case <-ctx.Done():
		}
		c.shard.mu.Lock()
		c.joined = nil
		c.entry.need -= c.cost
		if failed {
			c.entry.decide(c, c.limit.limiter.now(), false)
		}
		c.shard.mu.Unlock()
		more = more || c.verdict == undecided
	}
	return more
}

// fallBack decides what is left when the time is over: by what is known by now, or without Redis.
func (r *Reservation) fallBack(l *Limiter) {
	for i := range r.n {
		if c := &r.claims[i]; c.verdict == undecided {
			c.shard.mu.Lock()
			now := l.now()
			if c.entry.decide(c, now, c.limit.answers(c.entry)); c.verdict == undecided {
				c.entry.decide(c, now, false)
			}
			c.shard.mu.Unlock()
		}
	}
}

// release ends the use of entries, and the waiting, whatever has come of it.
func (r *Reservation) release() {
	for i := range r.n {
		c := &r.claims[i]
		if !c.using {
			continue
		}
		c.shard.mu.Lock()
		c.using = false
		c.entry.users--
		if c.joined != nil {
			c.joined = nil
			c.entry.need -= c.cost
		}
		c.shard.mu.Unlock()
	}
}

// exchange asks all of it in one round trip, and draws the consequences for the breaker.
func (s *shared) exchange(ctx context.Context, list []inquiry) {
	began := time.Now()
	deadline, _ := ctx.Deadline()
	hasty := !deadline.IsZero() && deadline.Sub(began) < s.limiter.opt.Timeout/2
	s.send(ctx, list)
	s.limiter.opt.Metrics.RedisSeconds("limit", time.Since(began))
	var failure error
	for i := range list {
		if err := list[i].err; err != nil {
			failure = err
		}
	}
	if failure == nil {
		s.breaker.Success()
		return
	}
	fault := breaker.Classify(failure)
	s.limiter.opt.Metrics.RedisError(fault.Cause)
	if fault.Answered {
		s.breaker.Success()
		s.limiter.log.warn(time.Now(), "redis refuses to count for limits, which go on without it", "cause", fault.Cause, "error", told(failure))
		return
	}
	if !hasty || fault.Cause != "timeout" { // of one that had little time left no wonder
		s.breaker.Failure(failure)
	}
}

// send sends the scripts by their digests, and once more as text those that Redis does not know (any more).
func (s *shared) send(ctx context.Context, list []inquiry) {
	s.pipeline(ctx, list, func(q *inquiry) bool { return true }, func(c redis.Cmdable, q *inquiry) *redis.Cmd {
		return c.EvalSha(ctx, q.limit.digest, []string{q.key}, q.arguments()...)
	})
	unknown := func(q *inquiry) bool { return redis.HasErrorPrefix(q.err, "NOSCRIPT") }
	for i := range list {
		if unknown(&list[i]) {
			s.pipeline(ctx, list, unknown, func(c redis.Cmdable, q *inquiry) *redis.Cmd {
				return c.Eval(ctx, q.limit.source, []string{q.key}, q.arguments()...)
			})
			return
		}
	}
}

// pipeline sends what is to be sent of a list, and reads what comes back.
func (s *shared) pipeline(ctx context.Context, list []inquiry, which func(*inquiry) bool, command func(redis.Cmdable, *inquiry) *redis.Cmd) {
	if len(list) == 1 {
		if which(&list[0]) {
			list[0].cmd = command(s.client, &list[0])
			list[0].read()
		}
		return
	}
	pipe := s.client.Pipeline()
	var asked []*inquiry
	for i := range list {
		if which(&list[i]) {
			list[i].cmd = command(pipe, &list[i])
			asked = append(asked, &list[i])
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, q := range asked {
		q.read()
	}
}

func (q *inquiry) arguments() []any {
	f := &q.limit.constant
	return []any{f[0], f[1], f[2], f[3], q.question.cost, q.question.need, q.question.most, q.question.owed, q.question.back, strconv.FormatInt(q.question.backTag, 10)}
}

// read reads the five numbers of an answer.
func (q *inquiry) read() {
	numbers, err := q.cmd.Int64Slice()
	if err == nil && len(numbers) != 5 {
		err = fmt.Errorf("an answer of another form: %v", numbers)
	}
	if q.err = err; err == nil {
		q.answer = answer{numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]}
	}
}

// told is an error of Redis without the arguments that it repeats of a command which it does not know: a key has a client.
func told(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", with args beginning with")
	return text
}
