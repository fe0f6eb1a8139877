package wire

import (
	"context"
	"net"
)

// net/http takes every error of a Read for the end of the client, and cancels the request's context before the handler sees the error.
// What tells a client that sends malformed content from one that has left is the connection.

// connKey is the key of a request's connection in its context.
type connKey struct{}

// ConnContext is for http.Server.ConnContext. Malformed needs it.
func ConnContext(ctx context.Context, inner net.Conn) context.Context {
	switch c := inner.(type) {
	case *conn:
		return context.WithValue(ctx, connKey{}, c)
	case *tlsConn:
		return context.WithValue(ctx, connKey{}, c.conn)
	}
	return ctx
}

// Malformed returns the fault in the content of the request with this context, or nil. It is to be asked when the context has ended.
func Malformed(ctx context.Context) *Fault {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok || ctx.Err() == nil {
		return nil
	}
	return c.content.Load()
}
