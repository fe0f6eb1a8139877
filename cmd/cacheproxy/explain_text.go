package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"cacheproxy/proxy"
)

// How an explanation is printed: a label, what it is, and at the right where that is written.
//
//	decision  revalidate (fwd=stale): stale                         RFC 9111 section 4.2
//	          The freshness lifetime of the stored response is over, and ...

// sheet prints rows.
type sheet struct{ printer }

func (s *sheet) row(label, format string, arguments ...any) {
	s.printf("%-10s%s\n", label, fmt.Sprintf(format, arguments...))
}

func (s *sheet) more(format string, arguments ...any) { s.row("", format, arguments...) }

// reason prints what was decided, the section it rests on, and the sentence.
func (s *sheet) reason(label, what string, r proxy.ExplainedReason) {
	s.row(label, "%s", strings.TrimRight(fmt.Sprintf("%-52s  %s", what, r.Section), " "))
	if r.Sentence != "" {
		s.more("%s", r.Sentence)
	}
}

func printExplanation(w io.Writer, e *proxy.Explanation) error {
	s := &sheet{printer{w: w}}
	s.printf("%s %s\n\n", e.Method, e.URL)
	s.explanation(e)
	return s.err
}

func printRecorded(w io.Writer, r *recorded) error {
	s := &sheet{printer{w: w}}
	s.printf("%s, answered %s\n\n", r.Request, r.Time.Format(time.RFC3339))
	if r.Stored {
		s.row("stored", "yes")
	} else {
		what := "no"
		if r.Why.Reason != "" {
			what += ": " + r.Why.Reason
		}
		s.reason("stored", what, *r.Why)
	}
	s.row("answer", "%d", r.Status)
	s.more("Cache-Status: %s", r.CacheStatus)
	s.printf("\nThe same request, at once:\n\n")
	s.explanation(&r.Next)
	if r.Later != nil {
		s.printf("\nWhen that is stale, %s later:\n\n", proxy.Seconds(r.Later.At.Sub(r.Next.At)))
		s.stored(r.Later)
		s.outcome(r.Later)
	}
	return s.err
}

func (s *sheet) explanation(e *proxy.Explanation) {
	s.asker(e)
	s.key(&e.Key)
	s.stored(e)
	s.outcome(e)
}

func (s *sheet) asker(e *proxy.Explanation) {
	client := "address not given, not trusted"
	if c := e.Client; c.Address != "" {
		client = c.Address + ", not trusted"
		if c.Trusted {
			client = fmt.Sprintf("%s, as %s says, which is trusted", c.Address, c.Peer)
			if c.Address == c.Peer {
				client = c.Address + ", trusted"
			}
		}
	}
	s.row("client", "%s", client)
	s.row("rule", "%s", ruleText(e.Site, e.Rule))
}

func ruleText(site string, r proxy.ExplainedRule) string {
	if r.Index < 0 {
		return "none of site " + site + " matches: HTTP alone decides"
	}
	match := r.Match
	if match == "" {
		match = "matches everything"
	}
	return fmt.Sprintf("rules[%d] of site %s: %s", r.Index, site, match)
}

func (s *sheet) key(k *proxy.ExplainedKey) {
	s.row("key", "%s", k.URL)
	if len(k.Dropped) > 0 {
		s.more("without %s, which the rule drops", strings.Join(k.Dropped, " and "))
	}
	if k.Sorted {
		s.more("with the parameters sorted")
	}
	for _, x := range k.Extras {
		value := "not sent"
		if len(x.Values) > 0 {
			value = fmt.Sprintf("%q", x.Values)
		}
		s.more("and %s: %s", strings.TrimSpace(x.Kind+" "+x.Name), value)
	}
}

func (s *sheet) stored(e *proxy.Explanation) {
	switch l := &e.Lookup; {
	case e.Stored != nil:
		s.response(e.Stored, l.Tier)
	case l.Why != nil && !l.Done:
		s.row("stored", "not looked up")
	case l.Why != nil:
		s.reason("stored", "not known: "+l.Why.Reason, *l.Why)
	case l.VaryMiss:
		s.row("stored", "other variants only, by %s", strings.ReplaceAll(l.Varies, ",", ", "))
	default:
		s.row("stored", "nothing")
	}
	if v := e.Lately; v != nil {
		s.reason("lately", fmt.Sprintf("a response was not stored %s ago: %s", v.Ago, v.Reason), v.ExplainedReason)
	}
}

func (s *sheet) response(r *proxy.ExplainedStored, tier string) {
	where := map[string]string{"near": "in this process's memory", "redis": "in Redis"}[tier]
	s.row("stored", "%d %s, %d bytes%s", r.Status, where, r.Bytes, after(", ", r.ContentType))
	if r.Partial != "" {
		s.more("a part: %s", r.Partial)
	}
	guessed := ""
	if r.Heuristic {
		guessed = ", a guess"
	}
	if r.TTL > 0 {
		up := r.TTL + proxy.Seconds(time.Second-1) // as Cache-Status rounds it, so that age and it make the whole
		s.more("age %s of %s%s: fresh for %s more", r.Age, r.Lifetime, guessed, up)
	} else {
		s.more("age %s of %s%s: stale for %s", r.Age, r.Lifetime, guessed, -r.TTL)
	}
	var windows []string
	for _, flag := range []struct {
		name string
		set  bool
	}{{"no-cache", r.NoCache}, {"must-revalidate", r.MustRevalidate}, {"immutable", r.Immutable}} {
		if flag.set {
			windows = append(windows, flag.name)
		}
	}
	if r.StaleWhileRevalidate > 0 {
		windows = append(windows, "stale-while-revalidate "+r.StaleWhileRevalidate.String())
	}
	if r.StaleIfError > 0 {
		windows = append(windows, "stale-if-error "+r.StaleIfError.String())
	}
	if len(windows) > 0 {
		s.more("%s", strings.Join(windows, ", "))
	}
	s.more("came %s, kept until %s", r.StoredAt.Format(time.DateTime), r.KeepUntil.Format(time.DateTime))
	if validators := strings.TrimPrefix(after(", ETag ", r.ETag)+after(", Last-Modified ", r.LastModified), ", "); validators != "" {
		s.more("%s", validators)
	}
	if r.Vary != "" {
		s.more("varies on %s", strings.ReplaceAll(r.Vary, ",", ", "))
	}
	if len(r.Tags) > 0 {
		s.more("tags: %s", strings.Join(r.Tags, ", "))
	}
	if len(r.Groups) > 0 {
		s.more("groups: %q", r.Groups)
	}
}

// after is text behind a prefix; nothing for nothing.
func after(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// outcome prints the decision and what follows from it.
func (s *sheet) outcome(e *proxy.Explanation) {
	what := e.Decision.Action
	if e.Decision.Fwd != "" {
		what += " (fwd=" + e.Decision.Fwd + ")"
	}
	s.reason("decision", what+after(": ", e.Decision.Reason), e.Decision.ExplainedReason)
	if e.Forward != nil {
		s.forward(e.Forward)
	} else {
		s.row("answer", "%d, without asking the upstream", e.Status)
	}
	s.row("says", "Cache-Status: %s", e.CacheStatus)
	for i, note := range e.Notes {
		s.row(map[int]string{0: "note"}[i], "%s", note)
	}
}

func (s *sheet) forward(f *proxy.ExplainedForward) {
	s.row("forward", "%s %s to %s", f.Method, f.Target, f.Host)
	if len(f.Dropped) > 0 {
		s.more("without the fields %s", strings.Join(f.Dropped, ", "))
	}
	if len(f.Added) > 0 {
		s.more("with %s", strings.Join(f.Added, ", "))
	}
	if f.Validates {
		s.more("it asks whether the stored response is still good")
	}
	switch {
	case f.UnderWay:
		s.more("such a fetch is under way, and would be shared")
	case f.Shared:
		s.more("whoever asks meanwhile shares the fetch")
	default:
		s.more("for this client alone: %s%s", f.Alone.Sentence, bracketed(f.Alone.Reason))
	}
	if f.Fallback {
		s.more("should the upstream fail, the stored response is served (stale-if-error)")
	}
}

func bracketed(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}
