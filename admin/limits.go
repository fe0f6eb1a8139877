package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cacheproxy/limiter"
	"cacheproxy/proxy"
)

// LimitsOptions are what the routes of limits need. Limiter and Log are required.
type LimitsOptions struct {
	Limiter *limiter.Limiter
	Shared  bool // it counts in Redis
	Log     *slog.Logger
	// Redacted names, in lower case, request fields whose values must not be logged, besides those that are always secret. Nil names none.
	Redacted func(name string) bool
}

// limits answers for the limits in use.
type limits struct{ LimitsOptions }

// Limits registers the routes by which limits are looked at, and by which a client is given all of its limit again. They must be guarded.
//
//	GET /v1/limits                  the limits in use, and who asks most of each: LimitsInUse; ?top=10 is how many of those, 0 to 100
//	GET /v1/limits/{name}           one of them, in the same form
//	GET /v1/limits/{name}/{key}     where a client stands: ClientStanding
//	DELETE /v1/limits/{name}/{key}  gives a client all of its limit again, on all replicas: LimitReset
//
// {key} is a client as the list shows it, with % as %25. An address may be written as it is where the limit's key is the client alone: see
// clientKey. 404 names the limits that there are; 503 says that Redis does not answer.
func Limits(mux *http.ServeMux, o LimitsOptions) {
	if o.Redacted == nil {
		o.Redacted = func(string) bool { return false }
	}
	l := &limits{o}
	mux.HandleFunc("GET /v1/limits", l.list)
	mux.HandleFunc("GET /v1/limits/{name}", l.list)
	mux.HandleFunc("GET /v1/limits/{name}/{key...}", l.standing) // a key may be empty, and a / in it may come as it is
	mux.HandleFunc("DELETE /v1/limits/{name}/{key...}", l.reset)
	mux.HandleFunc("DELETE /v1/limits/{name}", whichClient) // else it would be redirected to the empty key
}

// LimitsInUse is what GET /v1/limits answers.
type LimitsInUse struct {
	Limits []LimitInUse `json:"limits"` // as the configuration orders them
	// Redis is none where there was nothing to ask of it, asked, or failed: then Detail says why, and who asks most is not known.
	Redis  string `json:"redis"`
	Detail string `json:"detail,omitempty"`
}

// LimitInUse is a limit with its defaults filled in.
type LimitInUse struct {
	Name          string            `json:"name"`
	Key           []string          `json:"key"` // whose requests are counted together
	Limit         int64             `json:"limit"`
	Window        string            `json:"window"` // as the configuration writes it
	WindowSeconds proxy.Seconds     `json:"window_seconds"`
	Algorithm     limiter.Algorithm `json:"algorithm"`
	Accuracy      limiter.Accuracy  `json:"accuracy"`
	OnOutage      limiter.Outage    `json:"on_outage"`
	Burst         int64             `json:"burst,omitempty"` // of gcra: what may be used at once
	Shadow        bool              `json:"shadow"`          // it refuses nobody
	Clients       int64             `json:"clients"`         // that the process knows of which answers
	Overflow      int64             `json:"overflow"`        // requests that it has counted in common, for want of room, since its start
	Busiest       []BusyClient      `json:"busiest"`         // in the last five minutes, on all replicas; those first that ask most
}

// BusyClient is a client that asks much.
type BusyClient struct {
	Client  string `json:"client"` // its key
	Asked   int64  `json:"asked"`
	Refused int64  `json:"refused"` // of those
}

// ClientStanding is what GET /v1/limits/{name}/{key} answers. Leased and Refused are of the process alone that answers.
type ClientStanding struct {
	Limit     string        `json:"limit"`
	Client    string        `json:"client"` // its key
	Shadow    bool          `json:"shadow"` // the limit refuses nobody
	Quota     int64         `json:"quota"`  // tokens that it can have at the most at once
	Remaining int64         `json:"remaining"`
	Reset     proxy.Seconds `json:"reset_seconds"` // until all of them are there again; 0: they are
	Leased    int64         `json:"leased"`        // tokens taken ahead
	Refused   proxy.Seconds `json:"refused_seconds"`
	Redis     string        `json:"redis"` // who has counted what remains: asked, or none for the process itself
}

// LimitReset is what DELETE /v1/limits/{name}/{key} answers.
type LimitReset struct {
	Limit    string `json:"limit"`
	Client   string `json:"client"`
	Reset    bool   `json:"reset"`
	Replicas int64  `json:"replicas"` // that were told
}

const (
	defaultTop, maxTop = 10, 100
	limitsPatience     = 2 * time.Second // how long Redis may take
)

func (l *limits) list(w http.ResponseWriter, r *http.Request) {
	query, ok := parameters(w, r, "top")
	if !ok {
		return
	}
	top := defaultTop
	if text := query.Get("top"); text != "" {
		var err error
		if top, err = strconv.Atoi(text); err != nil || top < 0 || top > maxTop {
			WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("top is %.40q: write a number from 0 to %d", text, maxTop), nil)
			return
		}
	}
	list := l.Limiter.Summaries()
	if name := r.PathValue("name"); name != "" {
		one := l.named(w, name)
		if one == nil {
			return
		}
		list = []limiter.Summary{*one}
	}
	ctx, cancel := context.WithTimeout(r.Context(), limitsPatience)
	defer cancel()
	WriteJSON(w, http.StatusOK, l.inUse(ctx, list, top))
}

// inUse shows limits, also while Redis cannot be asked who is busiest. It is then asked once, not for each.
func (l *limits) inUse(ctx context.Context, list []limiter.Summary, top int) LimitsInUse {
	told := LimitsInUse{Limits: make([]LimitInUse, len(list)), Redis: "none"}
	if l.Shared && top > 0 && len(list) > 0 {
		told.Redis = "asked"
	}
	for i := range list {
		told.Limits[i] = limitInUse(&list[i])
		if top == 0 || told.Redis == "failed" {
			continue
		}
		busiest, err := l.Limiter.Busiest(ctx, list[i].Name, top)
		if err != nil && !errors.Is(err, limiter.ErrNoLimit) { // which another configuration has just taken away
			told.Redis, told.Detail = "failed", err.Error()
		}
		for _, b := range busiest {
			told.Limits[i].Busiest = append(told.Limits[i].Busiest, BusyClient{b.Key, b.Asked, b.Refused})
		}
	}
	return told
}

func limitInUse(s *limiter.Summary) LimitInUse {
	one := LimitInUse{
		Name: s.Name, Key: keyOf(s), Limit: s.Limit, Window: windowText(s.Window), WindowSeconds: proxy.Seconds(s.Window),
		Algorithm: cmp.Or(s.Algorithm, limiter.Fixed), Accuracy: cmp.Or(s.Accuracy, limiter.Leased), OnOutage: cmp.Or(s.OnOutage, limiter.Local),
		Shadow: s.Shadow, Clients: s.Clients, Overflow: s.Overflow, Busiest: []BusyClient{},
	}
	if one.Algorithm == limiter.GCRA {
		one.Burst = cmp.Or(s.Burst, s.Limit)
	}
	return one
}

// windowText is a window without zero units: 1h, 1m30s, 250ms.
func windowText(d time.Duration) string {
	if d%time.Second == 0 {
		return proxy.Seconds(d).String()
	}
	return d.String()
}

func (l *limits) standing(w http.ResponseWriter, r *http.Request) {
	limit, client := l.asked(w, r)
	if limit == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limitsPatience)
	defer cancel()
	s, err := l.Limiter.Standing(ctx, limit.Name, client)
	if err != nil {
		l.failed(w, limit.Name, err)
		return
	}
	told := ClientStanding{
		Limit: limit.Name, Client: s.Key, Shadow: limit.Shadow, Quota: s.Limit, Remaining: s.Remaining, Reset: proxy.Seconds(s.Reset),
		Leased: s.Leased, Refused: proxy.Seconds(s.Refused), Redis: "none",
	}
	if l.Shared {
		told.Redis = "asked"
	}
	WriteJSON(w, http.StatusOK, told)
}

func (l *limits) reset(w http.ResponseWriter, r *http.Request) {
	limit, client := l.asked(w, r)
	if limit == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limitsPatience)
	defer cancel()
	key := client
	if s, err := l.Limiter.Standing(ctx, limit.Name, client); err == nil { // else what cannot be read may still be deleted
		key = s.Key // of an address that is one of a network
	}
	replicas, err := l.Limiter.Reset(ctx, limit.Name, client)
	if err != nil {
		l.failed(w, limit.Name, err)
		return
	}
	l.Log.Info("a client was given all of its limit again", "limit", limit.Name, "client", l.logged(limit, key), "replicas", replicas, "who", who(r))
	WriteJSON(w, http.StatusOK, LimitReset{limit.Name, key, true, replicas})
}

// asked is the limit and the client that a request names. The limit is nil when that is answered.
func (l *limits) asked(w http.ResponseWriter, r *http.Request) (limit *limiter.Summary, client string) {
	if _, ok := parameters(w, r); !ok {
		return nil, ""
	}
	if limit = l.named(w, r.PathValue("name")); limit == nil {
		return nil, ""
	}
	client, err := clientKey(limit, r.PathValue("key"))
	if err != nil {
		WriteProblem(w, http.StatusBadRequest, err.Error(), nil)
		return nil, ""
	}
	return limit, client
}

// named finds a limit. It is nil when that is answered.
func (l *limits) named(w http.ResponseWriter, name string) *limiter.Summary {
	list := l.Limiter.Summaries()
	if i := slices.IndexFunc(list, func(s limiter.Summary) bool { return s.Name == name }); i >= 0 {
		return &list[i]
	}
	l.unknown(w, name, list)
	return nil
}

// failed answers where the limiter could not.
func (l *limits) failed(w http.ResponseWriter, name string, err error) {
	if errors.Is(err, limiter.ErrNoLimit) {
		l.unknown(w, name, l.Limiter.Summaries())
		return
	}
	WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
}

func (l *limits) unknown(w http.ResponseWriter, name string, list []limiter.Summary) {
	there := "none is configured"
	if len(list) > 0 {
		names := make([]string, len(list))
		for i := range list {
			names[i] = list[i].Name
		}
		there = "there are " + strings.Join(names, ", ")
	}
	WriteProblem(w, http.StatusNotFound, fmt.Sprintf("there is no limit %.80q: %s", name, there), nil)
}

func whichClient(w http.ResponseWriter, _ *http.Request) {
	WriteProblem(w, http.StatusBadRequest, "which client? DELETE /v1/limits/{name}/{key}, with % as %25: GET /v1/limits/{name} lists those that ask most", nil)
}
