package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cacheproxy/invalidation"
)

// A preview counts what a purge would forbid if it came now, and changes nothing. It is all that dry_run does, and comes first where max is given:
// then it is a check, not a transaction, and what is stored between it and the purge is not counted.

// Preview is what POST /v1/purge answers with dry_run.
type Preview struct {
	DryRun  bool     `json:"dry_run"` // true: nothing was purged
	Matched int64    `json:"matched"` // stored responses that the purge would forbid, or make stale
	Bytes   int64    `json:"bytes"`   // of body in them
	Sample  []string `json:"sample"`  // URLs of some
	// Counted says where: redis, all that the replicas share, or near, this process's memory, where there is no Redis.
	Counted string  `json:"counted"`
	Seconds float64 `json:"seconds"` // that the counting took
	Held    *Held   `json:"held,omitempty"`
}

// previewWait is how long counting may take unless the query says longer.
const previewWait = 10 * time.Second

// caution is what of a purge keeps it from doing too much.
type caution struct {
	dryRun bool
	max    int64 // -1 = any number
}

// caution reads dry_run and max, where null is a mistake: it may have been meant to be something.
func (p *Purge) caution() (c caution, err error) {
	c.max = -1
	var mistakes []error
	if p.DryRun != nil {
		var flag *bool
		if json.Unmarshal(p.DryRun, &flag) != nil || flag == nil {
			mistakes = append(mistakes, fmt.Errorf("dry_run is %.20s: true or false", p.DryRun))
		} else {
			c.dryRun = *flag
		}
	}
	if p.Max != nil {
		n, failed := strconv.ParseInt(string(p.Max), 10, 64)
		if failed != nil || n < 0 {
			mistakes = append(mistakes, fmt.Errorf("max is %.20s: a number of stored responses, from 0 on", p.Max))
		} else {
			c.max = n
		}
	}
	return c, errors.Join(mistakes...)
}

// cautious counts first where it is asked to. It reports false when it has answered: with the preview, with why there is none, or with 409 where
// more would be purged than may be.
func (p *purging) cautious(w http.ResponseWriter, r *http.Request, c caution, record *invalidation.Purge, wait time.Duration) bool {
	if !c.dryRun && c.max < 0 {
		return true
	}
	if wait <= 0 {
		wait = previewWait
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	begun := time.Now()
	found, err := p.Store.Preview(ctx, record)
	if err != nil {
		told := "what the purge would match cannot be counted now, and nothing was purged: " + err.Error()
		if ctx.Err() != nil && r.Context().Err() == nil {
			told = fmt.Sprintf("what the purge would match was not counted to the end within %v, and nothing was purged: ask with a longer wait, up to %v", wait, maxWait)
		}
		WriteProblem(w, http.StatusServiceUnavailable, told, map[string]any{"appended": "no"})
		return false
	}
	if c.max >= 0 && found.Matched > c.max {
		WriteProblem(w, http.StatusConflict, fmt.Sprintf("the purge would match %d of what is stored, and max is %d: nothing was purged", found.Matched, c.max),
			map[string]any{"matched": found.Matched, "max": c.max, "bytes": found.Bytes, "sample": p.shown(found.Sample), "appended": "no"})
		return false
	}
	if !c.dryRun {
		return true
	}
	told := Preview{
		DryRun: true, Matched: found.Matched, Bytes: found.Bytes, Sample: p.shown(found.Sample), Counted: p.Store.Shared().String(),
		Seconds: time.Since(begun).Round(time.Millisecond).Seconds(),
	}
	if found.Matched == 0 {
		told.Held = p.held(ctx)
	}
	WriteJSON(w, http.StatusOK, told)
	return false
}
