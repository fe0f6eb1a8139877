package limiter

// Outcome is how a request was answered, as far as its cost is concerned.
type Outcome int

// The outcomes. A request that was refused, by this limit or another, costs nothing.
const (
	Hit   Outcome = iota // from what was stored
	Miss                 // by asking for it, or by a handler
	Error                // with a failure of ours: what stands behind did not answer, or with a status of 5xx
	refused
)

// price is Spec.Cost made ready.
type price struct {
	outcomes [3]int64
	most     int64 // of outcomes
	methods  map[string]int64
}

func newPrice(cost map[string]int64) price {
	of := func(word string) int64 {
		if n, named := cost[word]; named {
			return n
		}
		return 1
	}
	p := price{outcomes: [3]int64{of("hit"), of("miss"), of("error")}}
	p.most = max(p.outcomes[Hit], p.outcomes[Miss], p.outcomes[Error])
	for word, n := range cost {
		if isMethod(word) {
			if p.methods == nil {
				p.methods = map[string]int64{}
			}
			p.methods[word] = n
		}
	}
	return p
}

// varies reports whether what a request costs depends on how it is answered.
func (p *price) varies() bool {
	return p.outcomes[Hit] != p.most || p.outcomes[Miss] != p.most || p.outcomes[Error] != p.most
}

// weight is by what a method multiplies.
func (p *price) weight(method string) int64 {
	if n, named := p.methods[method]; named {
		return n
	}
	return 1
}

// times is the most that a request of a method with that weight may cost. It does not overflow.
func (p *price) times(weight int64) int64 {
	if p.most > 0 && weight > exact/p.most {
		return exact
	}
	return p.most * weight
}

// of is what a request costs that was answered so.
func (p *price) of(weight int64, o Outcome) int64 {
	if o < 0 || o >= refused {
		return 0
	}
	return p.outcomes[o] * weight
}
