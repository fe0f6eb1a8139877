package admin

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/store"
)

// The parameters of GET /v1/log. Those of a filter may be given several times, and one of the values must hold; all parameters given must.
//
//	outcome  hit, hit-stale, collapsed, error, or a fwd value of Cache-Status
//	reason   what stands under detail in Cache-Status and the log
//	status   200, 5xx or 400-499; 0 is a connection that ended before a status was sent
//	url      a glob over host, as it was sent, and target, such as shop.example/a*; from / on, over the target alone. * is anything
//	method   GET
//	client   an address, or a network such as 10.0.0.0/8
//	tier     near, redis or none
//	min_ms   what took at least so many milliseconds
//	limit    end after so many lines; without follow, the last so many
//	follow   true (default): what ends from now on; false: what is kept of what ended before

// question is what a client asks of a Feed.
type question struct {
	filter *filter
	limit  int // 0 = none
	follow bool
}

// filter chooses requests. What is nil or zero lets all pass.
type filter struct {
	outcomes, reasons, methods, tiers []string
	statuses                          []statusRange
	urls                              []urlGlob
	clients                           []netip.Prefix
	atLeast                           time.Duration
}

type statusRange struct{ first, last int }

// urlGlob is matched against host and target, or against the target alone.
type urlGlob struct {
	glob       *policy.Glob
	targetOnly bool
}

// match reports whether p passes. The cheap comparisons come first; none allocates.
func (f *filter) match(p *Passed) bool {
	return p.Duration >= f.atLeast && oneOf(f.outcomes, p.Outcome) && oneOf(f.reasons, p.Detail) && oneOf(f.methods, p.Method) &&
		oneOf(f.tiers, p.Tier) && f.matchStatus(p.Status) && f.matchClient(p.Client) && f.matchURL(p.URL)
}

func oneOf(wanted []string, value string) bool {
	return wanted == nil || slices.Contains(wanted, value)
}

func (f *filter) matchStatus(status int) bool {
	for _, r := range f.statuses {
		if r.first <= status && status <= r.last {
			return true
		}
	}
	return f.statuses == nil
}

func (f *filter) matchClient(client netip.Addr) bool {
	for _, network := range f.clients {
		if network.Contains(client) {
			return true
		}
	}
	return f.clients == nil
}

func (f *filter) matchURL(u string) bool {
	for i := range f.urls {
		text := u
		if f.urls[i].targetOnly {
			text = u[max(0, strings.IndexByte(u, '/')):]
		}
		if f.urls[i].glob.Match(text) {
			return true
		}
	}
	return f.urls == nil
}

// CheckLog says what is wrong with the parameters of GET /v1/log, so that a command line can before it connects.
func CheckLog(parameters url.Values) error {
	_, err := parseQuestion(parameters)
	return err
}

// parseQuestion reads the parameters. A name that is none of them is an error: what it was to choose would be shown unchosen.
func parseQuestion(parameters url.Values) (*question, error) {
	q := &question{filter: new(filter), follow: true}
	for name, values := range parameters {
		for _, value := range values {
			if err := q.set(name, value); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	hit := func(outcome string) bool { return outcome == "hit" || outcome == "hit-stale" }
	if !q.follow && q.filter.outcomes != nil && !slices.ContainsFunc(q.filter.outcomes, func(o string) bool { return !hit(o) }) {
		return nil, errors.New("outcome: hits are shown as they pass but are not kept: follow the log (-f)")
	}
	return q, nil
}

func (q *question) set(name, value string) (err error) {
	f := q.filter
	switch name {
	case "outcome":
		f.outcomes, err = addWord(f.outcomes, value, policy.Labels())
	case "reason":
		f.reasons, err = addWord(f.reasons, value, reasons())
	case "tier":
		f.tiers, err = addWord(f.tiers, value, []string{store.TierNear.String(), store.TierRedis.String(), store.TierNone.String()})
	case "method":
		f.methods = append(f.methods, strings.ToUpper(value))
	case "status":
		var r statusRange
		r, err = parseStatus(value)
		f.statuses = append(f.statuses, r)
	case "url":
		var g urlGlob
		g, err = parseURLGlob(value)
		f.urls = append(f.urls, g)
	case "client":
		var network netip.Prefix
		network, err = parseNetwork(value)
		f.clients = append(f.clients, network)
	case "min_ms":
		f.atLeast, err = parseMilliseconds(value)
	case "limit":
		if q.limit, err = strconv.Atoi(value); err != nil || q.limit < 1 {
			return fmt.Errorf("%q is no number of lines", value)
		}
	case "follow":
		if q.follow, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
	default:
		return errors.New("is no parameter of this: outcome, reason, status, url, method, client, tier, min_ms, limit, follow")
	}
	return err
}

// addWord adds a word of a vocabulary. One that is not in it would never match, and the reader would wait.
func addWord(words []string, word string, vocabulary []string) ([]string, error) {
	if !slices.Contains(vocabulary, word) {
		return nil, fmt.Errorf("%q is none of %s", word, strings.Join(vocabulary, ", "))
	}
	return append(words, word), nil
}

func reasons() []string {
	var names []string
	for _, r := range policy.Reasons() {
		names = append(names, r.String())
	}
	return names
}

func parseStatus(text string) (r statusRange, err error) {
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok {
		r.first, err = strconv.Atoi(class)
		if err == nil && 1 <= r.first && r.first <= 9 {
			return statusRange{r.first * 100, r.first*100 + 99}, nil
		}
	} else {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		var wrong error
		r.first, err = strconv.Atoi(first)
		r.last, wrong = strconv.Atoi(last)
		if err == nil && wrong == nil && 0 <= r.first && r.first <= r.last && r.last <= 999 {
			return r, nil
		}
	}
	return statusRange{}, fmt.Errorf("%q is no status: write 200, 5xx or 400-499", text)
}

func parseURLGlob(pattern string) (urlGlob, error) {
	if invalidation.HasScheme(pattern) {
		return urlGlob{}, fmt.Errorf("%q has a scheme, which is not in the log: write host and path, or the path alone", pattern)
	}
	g, err := policy.CompileGlob(pattern)
	if err != nil {
		return urlGlob{}, fmt.Errorf("the pattern %w", err)
	}
	return urlGlob{glob: g, targetOnly: strings.HasPrefix(pattern, "/")}, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
	}
	return network.Masked(), nil
}

func parseMilliseconds(text string) (time.Duration, error) {
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ms >= 0 && ms < 1e12) { // also NaN
		return 0, fmt.Errorf("%q is no number of milliseconds", text)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}
