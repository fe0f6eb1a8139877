package load

import (
	"math"
	"math/rand/v2"

	"cacheproxy/bench/body"
)

// keys draws resources, as patterns say.
type keys struct {
	random  *rand.Rand
	draws   []draw
	weights float64 // of all
}

// draw is a pattern that is drawn from.
type draw struct {
	Pattern
	upTo float64 // the sum of the weights up to its own
	zipf *zipf   // nil: all alike
	next uint64  // the ID of the next one that is unique
}

func newKeys(patterns []Pattern, random *rand.Rand) *keys {
	k := &keys{random: random}
	for _, p := range patterns {
		k.weights += p.Weight
		d := draw{Pattern: p, upTo: k.weights, next: p.FirstID}
		if p.Zipf > 0 && p.Keys > 1 {
			d.zipf = newZipf(p.Keys, p.Zipf)
		}
		k.draws = append(k.draws, d)
	}
	return k
}

// draw draws a resource, and says by which pattern.
func (k *keys) draw() (r body.Resource, pattern int) {
	if len(k.draws) > 1 {
		for at := k.random.Float64() * k.weights; pattern < len(k.draws)-1 && at >= k.draws[pattern].upTo; {
			pattern++
		}
	}
	d := &k.draws[pattern]
	r = body.Resource{Kind: d.Kind, Size: d.Size, ID: d.FirstID}
	switch {
	case d.Unique:
		r.ID = d.next
		d.next++
	case d.zipf != nil:
		r.ID += d.zipf.draw(k.random) - 1
	case d.Keys > 1:
		r.ID += k.random.Uint64N(d.Keys)
	}
	return r, pattern
}

// zipf draws ranks from 1 to n, each in proportion to 1/rank^s, by rejection-inversion: W. Hörmann and G. Derflinger, "Rejection-inversion to
// generate variates from monotone discrete distributions", ACM TOMACS 6 (1996) 169-184. It takes any exponent above 0, where rand.Zipf takes those
// above 1, and needs no table.
//
// The idea: the area under h(x) = x^-s from rank-½ to rank+½ is at least h(rank), as h is convex. A point is drawn evenly from the whole area, whose
// integral has an inverse; its rank is the nearest, and is taken when the point is in the part of the area that is as large as h(rank), which it
// nearly always is.
type zipf struct {
	s, n       float64
	low, high  float64 // of the integral, up to the first rank and the last
	alwaysUpTo float64 // of the distance from x to its rank: it is taken without looking
}

func newZipf(n uint64, s float64) *zipf {
	z := &zipf{s: s, n: float64(n)}
	z.low = z.integral(1.5) - 1 // the first rank's share is h(1) = 1, not the larger area
	z.high = z.integral(z.n + 0.5)
	z.alwaysUpTo = 2 - z.inverse(z.integral(2.5)-z.h(2))
	return z
}

func (z *zipf) draw(random *rand.Rand) uint64 {
	for {
		u := z.high + random.Float64()*(z.low-z.high)
		x := z.inverse(u)
		rank := min(max(math.Floor(x+0.5), 1), z.n)
		if rank-x <= z.alwaysUpTo || u >= z.integral(rank+0.5)-z.h(rank) {
			return uint64(rank)
		}
	}
}

func (z *zipf) h(x float64) float64 { return math.Exp(-z.s * math.Log(x)) }

// integral is that of h from 1 to x: (x^(1-s) - 1) / (1-s), and log x where s is 1; exact around there.
func (z *zipf) integral(x float64) float64 {
	log := math.Log(x)
	if t := (1 - z.s) * log; math.Abs(t) > 1e-8 {
		return math.Expm1(t) / t * log
	}
	return log
}

// inverse is the x whose integral it is.
func (z *zipf) inverse(integral float64) float64 {
	t := max((1-z.s)*integral, -1) // less is rounding
	if math.Abs(t) > 1e-8 {
		return math.Exp(math.Log1p(t) / t * integral)
	}
	return math.Exp(integral)
}
