package admin

import (
	"errors"
	"strings"
	"time"

	"cacheproxy/invalidation"
)

// Record is the purge as it goes into the log. The error says, in one sentence, all that POST /v1/purge would refuse it for.
func (p *Purge) Record() (invalidation.Purge, error) {
	r, err := p.record()
	if err != nil {
		err = errors.New(strings.Join(mistakes(err), "; "))
	}
	return r, err
}

// LoggedOf shows a record as the log has it.
func LoggedOf(r *invalidation.Record) Logged {
	told := Logged{Sequence: r.Seq, Time: time.UnixMicro(int64(r.Seq)).UTC(), Who: r.Who, Purge: shown(r)}
	if before := r.Filters.StoredBefore; before > 0 {
		told.StoredBefore = new(time.UnixMicro(before).UTC())
	}
	return told
}
