package store

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(tryDial)) }

// tryDial is where the client library looks each second whether a server that it could not connect to is there, up to a second after its Close.
const tryDial = "github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"
