package limiter

import "cacheproxy/metrics"

// counts are the metrics of a limit, looked up once.
type counts struct {
	allowed, near, refused, shadow, exempt, unavailable *metrics.LimitCounter
	by                                                  [sources]*metrics.LimitCounter
}

func newCounts(m *metrics.Metrics, name string) counts {
	c := counts{
		allowed: m.Limit(name, "allowed"), near: m.Limit(name, "near"), refused: m.Limit(name, "refused"), shadow: m.Limit(name, "shadow"),
		exempt: m.Limit(name, "exempt"), unavailable: m.Limit(name, "unavailable"),
	}
	for i, by := range sourceNames {
		c.by[i] = m.LimitSource(name, by)
	}
	return c
}

// nearShare is from what part of the limit on a client is near it.
const nearShare = 5 // a fifth is left: 80 %

// decided counts what became of a claim. One that was not asked, because another had refused before, is not counted.
func (k *counts) decided(c *claim) {
	switch c.verdict {
	case undecided:
		return
	case exempted:
		k.exempt.Inc()
		return
	case admitted:
		if !c.free && c.left <= c.limit.burst/nearShare {
			k.near.Inc()
		} else {
			k.allowed.Inc()
		}
	case denied, unavailable:
		switch {
		case c.limit.spec.Shadow:
			k.shadow.Inc()
		case c.verdict == unavailable:
			k.unavailable.Inc()
		default:
			k.refused.Inc()
		}
	}
	k.by[c.by].Inc()
}
