package redistest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// StartSettled is Start, and the server has known for an hour who follows the log of purges under the prefix "cp" (invalidation/heartbeat.lua): the
// receipts of purges need not wait for replicas that it might have known before. That ends when it is emptied or started again.
func StartSettled(t testing.TB, args ...string) *Server {
	t.Helper()
	s := Start(t, args...)
	s.Settle()
	return s
}

// Settle has the server have known that for an hour.
func (s *Server) Settle() {
	s.t.Helper()
	ctx, admin := s.t.Context(), s.Admin()
	info, err := admin.Info(ctx, "server").Result()
	_, run, found := strings.Cut(info, "run_id:")
	if err != nil || !found {
		s.t.Fatalf("redistest: %v, %q", err, info)
	}
	run, _, _ = strings.Cut(run, "\r")
	if err := admin.HSet(ctx, "cp:{inv}:replicas", "run", fmt.Sprintf("%s %d", run, time.Now().Add(-time.Hour).UnixMicro())).Err(); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}
