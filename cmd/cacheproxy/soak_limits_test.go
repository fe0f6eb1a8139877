//go:build soak

package main

import "testing"

// TestSoakKilledReplicas kills replicas for about a minute.
func TestSoakKilledReplicas(t *testing.T) { killReplicas(t, 180) }

// TestSoakProcessesShareALimit offers four processes twenty times what a limit admits.
func TestSoakProcessesShareALimit(t *testing.T) { shareALimit(t, 20_000) }
