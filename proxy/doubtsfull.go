package proxy

import "cacheproxy/invalidation"

// When there is no room for one more. It takes a log that hangs for minutes, for one that answers takes a record of 256 URLs in a millisecond or
// two; or a flood of long URLs, half a minute of twice as much as speed.
//
// Then a coarser record takes the place of those that wait: an origin's as a whole. It forgets more than has changed, once, and costs the
// origin a fetch for each URL that is asked for again (one, whoever asks). Dropping some instead would cost nothing, and the other replicas
// would serve what the site has replaced for as long as it is fresh; nobody could find out which. It forgets, and does not make stale: RFC
// 9111 section 4.4 wants mandatory validation, and what is stale may be served without it (stale-while-revalidate, stale-if-error). The origin is
// the one of which most wait, so that who floods one site costs the others nothing.
const (
	// maxWaiting and maxWaitingSize bound what waits, in number and bytes of text: two minutes of 500 changes a second, in 30 MiB or so.
	maxWaiting, maxWaitingSize = 1 << 16, 16 << 20
	// maxWhole bounds the origins that wait as a whole: each is looked for among all that is stored.
	maxWhole = 16
)

// whose is who the history names for a coarser record.
const whose = "more unsafe requests than the log of purges took"

// makeRoom puts the origin of which most wait in their place; or everything, where that is too little or such origins are too many. Called with
// the lock held.
func (d *Doubts) makeRoom() {
	whole, most := doubt{}, 0
	for origin, n := range d.origins {
		if n > most {
			whole, most = doubt{origin: origin}, n
		}
	}
	wholes := 0
	for _, t := range d.others {
		if t.isWhole() {
			wholes++
		}
	}
	if most < invalidation.MaxURLs || wholes >= maxWhole || nameable(whole) != whole {
		whole = doubt{}
	}
	t := &turn{doubt: whole, who: whose, done: make(chan struct{})}
	counts := map[string]int{}
	for _, from := range [...]*[]*turn{&d.urls, &d.others} {
		var kept []*turn
		for _, one := range *from {
			if whole.origin != "" && one.origin != whole.origin {
				kept = append(kept, one)
				continue
			}
			d.taken(one)
			t.absorbed = append(append(t.absorbed, one.absorbed...), one)
			one.absorbed = nil
			if !one.isWhole() {
				counts[one.source()]++
			}
		}
		*from = kept
	}
	d.waiting[whole] = t
	d.size += t.size()
	d.others = append(d.others, t)
	for source, n := range counts {
		d.opt.Metrics.Purges(source, purgeCoarse, n)
	}
	what := "everything"
	if whole.origin != "" {
		what = whole.origin
	}
	d.opt.Log.Warn("too much waits for the log of purges that unsafe requests have changed: a purge of all of it takes the place",
		"of", what, "instead", len(t.absorbed), "waiting", len(d.waiting))
}
