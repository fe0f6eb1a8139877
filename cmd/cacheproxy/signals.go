package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifySignals reports SIGINT and SIGTERM, two of them being enough: one to end, one to end at once. Forget stops it.
func notifySignals() (signals <-chan os.Signal, forget func()) {
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	return c, func() { signal.Stop(c) }
}

// notifyHangups reports SIGHUP, which asks for the configuration to be read again. Several that come together are one. Forget stops it.
func notifyHangups() (hangups <-chan os.Signal, forget func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
