package main

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/proxy"
)

// newLogger returns the logger that log.format asks for. Everything is written to one stream, standard error, start lines and
// the access log alike, so that the order of what happened is kept; standard output is for data, of which serve has none.
// Lines of the access log have msg=request.
func newLogger(c config.Log, w io.Writer) *slog.Logger {
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}

// accessLog writes a line for each request, or for a share of them.
type accessLog struct {
	log    *slog.Logger
	config config.Access
	redact map[string]bool // lower case
	chance func() float64  // in [0, 1)
}

func newAccessLog(c config.Log, log *slog.Logger) *accessLog {
	redact := make(map[string]bool, len(c.Redact))
	for _, name := range c.Redact {
		redact[strings.ToLower(name)] = true
	}
	return &accessLog{log: log, config: c.Access, redact: redact, chance: rand.Float64}
}

// hook returns what proxy.Options.AccessLog calls; nil when no request is ever logged.
func (l *accessLog) hook() func(*proxy.Access) {
	if l.config.Sample == 0 && l.config.Hits == 0 {
		return nil
	}
	return l.request
}

// redacted stands in the log for a value that log.redact names.
const redacted = "REDACTED"

func (l *accessLog) request(a *proxy.Access) {
	share := l.config.Sample
	if a.Outcome.Hit {
		share = l.config.Hits
	}
	if share == 0 || (share < 1 && l.chance() >= share) {
		return
	}
	attributes := make([]slog.Attr, 0, 16)
	attributes = append(attributes,
		slog.String("method", a.Request.Method),
		slog.String("host", a.Request.Host),
		slog.String("target", l.target(a.Request)),
		slog.String("proto", a.Request.Proto),
		slog.Int("status", a.Status),
		slog.Int64("bytes", a.Bytes),
		slog.Float64("ms", float64(a.Duration.Microseconds())/1000),
		slog.String("client", a.Client.String()),
		slog.String("outcome", a.Outcome.Label()),
		slog.String("tier", a.Tier.String()),
		slog.Bool("stored", a.Outcome.Stored),
		slog.String("site", a.Site),
	)
	if a.Rule >= 0 {
		attributes = append(attributes, slog.Int("rule", a.Rule))
	}
	if detail := a.Outcome.Detail.String(); detail != "" {
		attributes = append(attributes, slog.String("detail", detail))
	}
	if agent := l.field(a.Request.Header, "User-Agent"); agent != "" {
		attributes = append(attributes, slog.String("user_agent", agent))
	}
	level := slog.LevelInfo
	if a.Err != nil {
		level = slog.LevelWarn
		attributes = append(attributes, slog.String("error", a.Err.Error()))
	}
	l.log.LogAttrs(a.Request.Context(), level, "request", attributes...)
}

// target is the path and query as the client sent them, but for the values of redacted parameters.
func (l *accessLog) target(r *http.Request) string {
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") {
		target = r.URL.RequestURI() // absolute-form: without scheme, host and user information
	}
	path, query, found := strings.Cut(target, "?")
	if !found || len(l.redact) == 0 {
		return target
	}
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		name, _, _ := strings.Cut(parameter, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			decoded = name
		}
		if l.redact[strings.ToLower(decoded)] {
			parameters[i] = name + "=" + redacted
		}
	}
	return path + "?" + strings.Join(parameters, "&")
}

func (l *accessLog) field(h http.Header, name string) string {
	value := h.Get(name)
	if value != "" && l.redact[strings.ToLower(name)] {
		return redacted
	}
	return value
}
