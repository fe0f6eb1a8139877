package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/demo"
)

// demoAddress is where the demo origin listens unless told otherwise.
const demoAddress = "127.0.0.1:3000"

func newDemo() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a small origin whose pages show caching happening",
		Long: `Demo is an origin to put the proxy in front of: a clock, a slow page, a tagged page, a private page and others, each of
which counts how often it was asked. Its index page explains them. To have both at once: cacheproxy serve --demo`,
		Example: `  cacheproxy demo --listen 127.0.0.1:3000
  cacheproxy serve --upstream http://127.0.0.1:3000`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals, forget := notifySignals()
			defer forget()
			origin, err := startDemo(address, "--listen")
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "the demo origin listens on http://%s\n", origin.address)
			select {
			case <-signals:
			case err := <-origin.ended:
				return failure{err}
			}
			return origin.stop()
		},
	}
	cmd.Flags().StringVar(&address, "listen", demoAddress, "`address` to listen on")
	return cmd
}

// demoOrigin is a running demo.
type demoOrigin struct {
	address net.Addr
	ended   chan error // the server stopped by itself
	server  *http.Server
	cancel  context.CancelFunc // ends event streams
}

// startDemo serves the demo; flag is what chooses another address.
func startDemo(address, flag string) (*demoOrigin, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(err, "the demo origin cannot listen", flag)
	}
	streams, cancel := context.WithCancel(context.Background())
	d := &demoOrigin{address: listener.Addr(), ended: make(chan error, 1), cancel: cancel}
	d.server = &http.Server{
		Handler:           demo.New(demo.Options{}),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return streams },
	}
	go func() {
		if err := d.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.ended <- err
		}
	}()
	return d, nil
}

// stop ends event streams at once and lets other requests end.
func (d *demoOrigin) stop() error {
	d.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		return failure{fmt.Errorf("the demo origin did not end: %w", err)}
	}
	return nil
}
