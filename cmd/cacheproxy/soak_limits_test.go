//go:build soak

package main

import "testing"

// TestSoakKilledReplicas kills replicas for about a minute.
func TestSoakKilledReplicas(t *testing.T) { killReplicas(t, 80) }
