//go:build !linux

package redistest

import "syscall"

// dieWithParent: only Linux offers it. Elsewhere t.Cleanup alone ends the servers.
func dieWithParent() *syscall.SysProcAttr { return nil }

// waitStopped has nothing to wait with; the signal was sent.
func waitStopped(int) error { return nil }
