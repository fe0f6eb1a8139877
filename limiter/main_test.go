package limiter

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // as store.Dial does
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(tryDial))
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// tryDial is where the client library looks each second whether a server that it could not connect to is there, up to a second after its Close.
const tryDial = "github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"
