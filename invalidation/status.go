package invalidation

import (
	"context"
	"time"
)

// Status is how far this replica has come, as far as it knows by itself: nobody is asked for it.
type Status struct {
	Applied    Position // the last record applied
	Registered bool     // the others know of this replica, so that receipts wait for it and name it
	// Lag is for how long this replica has not known that it had applied everything in the log. It asks each second, so that it is up to
	// about 1 s when all is well; it grows while Redis does not answer, and while there is more than has been applied. 0 without Redis.
	Lag time.Duration
}

// Status tells how far this replica has come.
func (f *Follower) Status() Status {
	s := Status{Applied: f.position(), Registered: f.Registered()}
	if f.log == nil {
		return s
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Lag = max(f.opt.Now().Sub(f.level), 0)
	return s
}

// Shared reports whether there may be other replicas: the log is in Redis.
func (f *Follower) Shared() bool { return f.log != nil }

// AwaitRegistered waits until this replica is registered, which takes some round trips, and reports false where ctx ends before that.
func (f *Follower) AwaitRegistered(ctx context.Context) bool {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for !f.Registered() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// isLevel notes that all that the log held at a time was applied.
func (f *Follower) isLevel(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.level = at
}
