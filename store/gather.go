package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// gatherer sends the lookups of a moment to Redis. As long as few are under way each has a pipeline of its own, which is the soonest
// answer. From gatherFrom pipelines on, further lookups wait for one of them to end and then go together: a pipeline costs mostly what
// writing and reading on a connection cost, however many commands are in it (BenchmarkPipelining).
//
// In a cluster nothing is gathered, since a node that does not answer would hold up lookups on all others.
type gatherer struct {
	client redis.UniversalClient
	alone  bool // gather nothing

	// What has been used and nobody knows any more, to be used again.
	lookups  sync.Pool // *lookup
	timers   sync.Pool // *time.Timer, none of them running
	carriers sync.Pool // *carrier

	mu      sync.Mutex
	flights int       // pipelines under way
	waiting []*lookup // to go together, the first asked first
}

const (
	gatherFrom = 4  // pipelines at once; below it gathering would make lookups wait without saving anything
	gatherMost = 16 // lookups in a pipeline: large bodies must not hold up too many others
)

// lookup asks for a root and an entry.
type lookup struct {
	rootKey, entryKey string
	ends              time.Time // when nobody waits for the answer any more
	args              [4]any    // of both commands
	replies

	// turn is sent the lookups that this one is to send with its own, or nil when it has been answered.
	turn chan []*lookup
}

// replies are the answer to a lookup.
type replies struct {
	root   *redis.MapStringStringCmd
	entry  *redis.StringCmd
	failed error // of the pipeline and of no command in it: then replies look empty
}

// A carrier is a pipeline, and where its commands are gathered. Whoever has sent with it leaves it, empty, to the next, since the client
// library makes four objects of every pipeline.
type carrier struct {
	pipe     redis.Pipeliner
	commands []redis.Cmder
}

func newGatherer(client redis.UniversalClient) *gatherer {
	_, cluster := client.(*redis.ClusterClient)
	g := &gatherer{client: client, alone: cluster}
	g.carriers.New = func() any { return &carrier{pipe: client.Pipeline()} }
	return g
}

// do asks for a root and an entry. It returns an error where ctx or the time for it ends before it is its turn, and never takes longer.
func (g *gatherer) do(ctx context.Context, rootKey, entryKey string, ends time.Time) (replies, error) {
	l, used := g.lookups.Get().(*lookup)
	if !used {
		l = &lookup{turn: make(chan []*lookup, 1)}
	}
	l.rootKey, l.entryKey, l.ends = rootKey, entryKey, ends
	if err := g.answer(ctx, l); err != nil {
		return replies{}, err // and nobody uses l again: it may be being sent for
	}
	got := l.replies
	*l = lookup{turn: l.turn}
	g.lookups.Put(l)
	return got, nil
}

// answer fills in the replies.
func (g *gatherer) answer(ctx context.Context, l *lookup) error {
	if g.alone {
		g.sendAlone(ctx, l)
		return nil
	}
	g.mu.Lock()
	if g.flights < gatherFrom {
		g.flights++
		g.mu.Unlock()
		defer g.next()
		g.sendAlone(ctx, l)
		return nil
	}
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(l.ends) {
		l.ends = sooner
	}
	g.waiting = append(g.waiting, l)
	g.mu.Unlock()
	return g.wait(ctx, l)
}

// wait waits for the lookup's turn. A context with a deadline would do the same with a timer, a channel, and a place in ctx of its own for
// every lookup, and most of them never get to ask Redis themselves.
func (g *gatherer) wait(ctx context.Context, l *lookup) error {
	timer, used := g.timers.Get().(*time.Timer)
	if left := time.Until(l.ends); used {
		timer.Reset(left)
	} else {
		timer = time.NewTimer(left)
	}
	var batch []*lookup
	var err error
	select {
	case batch = <-l.turn:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = context.DeadlineExceeded
	}
	timer.Stop() // after which nothing is left in its channel
	g.timers.Put(timer)
	if err != nil {
		g.leave(ctx, l)
		return err
	}
	g.lead(ctx, batch)
	return nil
}

// lead sends a batch for all in it. The leader's own request alone may end early, so its end is not the batch's; but its deadline is,
// which is the last of them all: nobody waits for Redis longer than he may, the leader included.
func (g *gatherer) lead(ctx context.Context, batch []*lookup) {
	if batch == nil {
		return // somebody else did
	}
	defer g.next()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), batch[0].ends)
	defer cancel()
	g.send(ctx, batch...)
	for _, other := range batch[1:] {
		other.turn <- nil
	}
}

// leave takes a lookup whose time is over out of those that wait. Where its turn has come meanwhile to send for others, it does.
func (g *gatherer) leave(ctx context.Context, l *lookup) {
	g.mu.Lock()
	at := slices.Index(g.waiting, l)
	if at >= 0 {
		g.waiting = slices.Delete(g.waiting, at, at+1)
	}
	g.mu.Unlock()
	if at < 0 {
		select {
		case batch := <-l.turn:
			g.lead(ctx, batch)
		default: // somebody sends for it, and fills it in when nobody looks any more
		}
	}
}

// next gives the place of a pipeline that has ended to those who wait.
func (g *gatherer) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.flights--
		return
	}
	n := min(len(g.waiting), gatherMost)
	batch := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	slices.SortStableFunc(batch, func(a, b *lookup) int { return b.ends.Compare(a.ends) })
	batch[0].turn <- batch // who has the most time left
}

// sendAlone asks for one lookup until it ends, or ctx.
func (g *gatherer) sendAlone(ctx context.Context, l *lookup) {
	ctx, cancel := context.WithDeadline(ctx, l.ends)
	defer cancel()
	g.send(ctx, l)
}

// send asks for all in one pipeline.
func (g *gatherer) send(ctx context.Context, batch ...*lookup) {
	c := g.carriers.Get().(*carrier)
	for _, l := range batch {
		l.args = [...]any{"hgetall", &l.rootKey, "get", &l.entryKey} // addresses, since making an interface of a string copies its head
		l.root, l.entry = redis.NewMapStringStringCmd(ctx, l.args[:2:2]...), redis.NewStringCmd(ctx, l.args[2:]...)
		c.commands = append(c.commands, l.root, l.entry)
	}
	err := c.exec(ctx)
	g.carriers.Put(c)
	// Exec returns the first reply that is an error, such as that an entry does not exist. But a connection that could not
	// be set up, for a wrong password say, is an error of Exec alone, and leaves replies that look empty.
	for _, l := range batch {
		if l.root.Err() == err || l.entry.Err() == err { //nolint:errorlint // the very error
			err = nil
		}
	}
	for _, l := range batch {
		l.failed = err
	}
}

// exec sends the commands and forgets them.
func (c *carrier) exec(ctx context.Context) error {
	_ = c.pipe.BatchProcess(ctx, c.commands...) // copies them, and cannot fail
	clear(c.commands)
	c.commands = c.commands[:0]
	_, err := c.pipe.Exec(ctx)
	return err
}
