package limiter

import (
	"context"
	"flag"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// TestMain lets more tests wait at once than there are processors: most of them wait for Redis, or for windows to end.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // of package testing: it is there
	redis.SetLogger(silent{})          // as store.Dial does
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(tryDial))
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// tryDial is where the client library looks each second whether a server that it could not connect to is there, up to a second after its Close.
const tryDial = "github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"
