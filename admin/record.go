package admin

import (
	"errors"
	"strings"

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

// PurgedOf shows a record as GET /v1/purges does.
func PurgedOf(r *invalidation.Record) Purged { return purged(r) }
