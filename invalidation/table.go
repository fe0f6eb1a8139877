package invalidation

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// Subject is what of a stored response the records look at.
type Subject struct {
	URL         string
	BodyAsOf    Seq // applied before the lookup that led to the fetch of its body
	ValidAsOf   Seq // applied before the lookup that led to its last fetch or validation
	Status      int
	ContentType string
	Size        int64    // bytes of body; -1 = not known yet: it is taken for any
	StoredAt    int64    // last stored or validated, microseconds since 1970 by the clock of Redis
	Tags        []string // its own and those of the rules
	Groups      []string // RFC 9875
}

// Verdict is what the records say of a stored response.
type Verdict uint8

// The verdicts.
const (
	Keeps     Verdict = iota // nothing
	Stale                    // a soft record is above its ValidAsOf
	Forgotten                // a hard record is above its BodyAsOf: it must not be served
)

// A Table holds the records that a replica has applied and not yet forgotten. It is safe for concurrent use.
//
// Records that select by name alone are in maps, of which each name holds the newest hard and the newest soft one: whatever an older one
// forbids, the newer one does too. The others (with filters, with all of several tags, patterns, URLs of any scheme) are a list, and all that
// came since the last look are looked at.
//
// In this process the records have Numbers, in the order of their being applied, so that one comparison tells whether a stored response
// has been looked at since the last of them, whatever has become of the log meanwhile. What was applied is visible before Head says so:
// who has read Head finds all records up to it.
type Table struct {
	head  atomic.Uint64
	floor atomic.Uint64
	epoch atomic.Uint64        // of the last record applied
	mark  atomic.Pointer[Mark] // of head

	mu     sync.RWMutex
	names  map[name]newest
	listed []*listed  // in the order of their numbers
	order  []numbered // all, in that order: to be forgotten
	urls   int        // that the lists of URLs in order name, all together
}

// Number counts the records that this process has applied, and the doubts that it has had.
type Number uint64

// Mark is a moment in the order of records: what was applied before a lookup.
type Mark struct {
	Number
	Position
}

type numbered struct {
	*Record
	number Number
}

// name is what a simple record selects by.
type name struct {
	kind Kind
	of   string // for KindGroup origin, NUL, group
}

// newest are the newest records of a name.
type newest struct {
	hard, soft Seq
	before     Seq // the one before the newer of them, whether or not it is remembered; 0 = none
}

// listed is a record that is looked at by itself.
type listed struct {
	numbered
	glob Glob // of KindPattern
}

// NewTable makes a table that holds no record yet.
func NewTable() *Table {
	t := &Table{names: make(map[name]newest)}
	t.moveTo(Mark{Number: 1}) // so that the zero Number is before all
	return t
}

// Head is the number of the last record applied.
func (t *Table) Head() Number { return Number(t.head.Load()) }

// Floor is the newest number forgotten. What was looked at, or begun, when less than that was applied may have been forbidden by a record that
// is not here any more.
func (t *Table) Floor() Number { return Number(t.floor.Load()) }

// Epoch is that of the last record applied; 0 = there is none yet.
func (t *Table) Epoch() Epoch { return Epoch(t.epoch.Load()) }

// Mark is the present moment. Every lookup takes it, so it waits for nobody.
func (t *Table) Mark() Mark { return *t.mark.Load() }

// moveTo moves the head. Who reads it meanwhile has a mark that is too early rather than too late. Called with the lock held.
func (t *Table) moveTo(m Mark) {
	t.epoch.Store(uint64(m.Epoch))
	t.head.Store(uint64(m.Number))
	t.mark.Store(&m)
}

// Len is the number of records held.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.order)
}

// Apply takes the next record of the log.
func (t *Table) Apply(r *Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := numbered{r, Number(t.head.Load()) + 1}
	t.order = append(t.order, one)
	if r.simple() {
		for _, n := range r.names() {
			t.names[n] = t.names[n].with(r)
		}
		t.urls += len(r.URLs)
		t.thin()
	} else {
		glob, _ := CompileGlob(r.Selector) // was checked when it was appended
		t.listed = append(t.listed, &listed{one, glob})
	}
	t.moveTo(Mark{one.number, r.Position()})
}

// Doubt forgets all records, and has everything that was looked at or begun before be doubted too: it is below the floor. The log goes
// on at that position.
func (t *Table) Doubt(at Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.names)
	t.listed, t.order, t.urls = nil, nil, 0
	number := t.Head() + 1
	t.floor.Store(uint64(number))
	t.moveTo(Mark{number, at})
}

// thinAbove is how many URLs lists may name in vain, besides as many again as there are names.
const thinAbove = 1024

// thin takes out of lists of URLs those of which a newer record is there that forbids as much: so what is remembered of URLs that change again
// and again is bounded by how many they are. Lists are copied, since others may be reading them. Called with the lock held.
func (t *Table) thin() {
	if t.urls <= 3*len(t.names)+thinAbove { // each is the newest for at most two names, hard and soft
		return
	}
	t.urls = 0
	for i, r := range t.order {
		if r.URLs == nil || !r.simple() {
			continue
		}
		urls := make([]string, 0, len(r.URLs))
		for _, url := range r.URLs {
			if n := t.names[name{KindURL, url}]; n.hard == r.Seq || n.soft == r.Seq {
				urls = append(urls, url)
			}
		}
		if len(urls) < len(r.URLs) {
			thinned := *r.Record
			thinned.URLs = slices.Clip(urls)
			t.order[i].Record = &thinned
		}
		t.urls += len(urls)
	}
}

// names are what a simple record selects by.
func (r *Record) names() []name {
	switch r.Kind {
	case KindTag:
		names := make([]name, len(r.Tags))
		for i, tag := range r.Tags {
			names[i] = name{KindTag, tag}
		}
		return names
	case KindGroup:
		return []name{{KindGroup, groupName(r.Origin, r.Group)}}
	case KindURL:
		urls := r.CacheURLs()
		names := make([]name, len(urls))
		for i, url := range urls {
			names[i] = name{KindURL, url}
		}
		return names
	default:
		return []name{{r.Kind, r.Selector}}
	}
}

// groupName is unique since neither an origin nor a structured string has NUL.
func groupName(origin, group string) string { return origin + "\x00" + group }

func (n newest) with(r *Record) newest {
	n.before = max(n.hard, n.soft)
	if r.Soft {
		n.soft = r.Seq
	} else {
		n.hard = r.Seq
	}
	return n
}

// without is what is left when a record is forgotten: a newer one stays.
func (n newest) without(r *Record) newest {
	if r.Soft && n.soft == r.Seq {
		n.soft = 0
	} else if !r.Soft && n.hard == r.Seq {
		n.hard = 0
	}
	return n
}

// Judgement is what the records say of a stored response.
type Judgement struct {
	Verdict
	Soft Seq    // of the newest soft record that selects it, where the verdict is Stale
	UpTo Number // which records were looked at

	// Floor and Epoch are the table's in that moment: nothing is said of records up to the floor, nor of another epoch.
	Floor Number
	Epoch Epoch
}

// Judge looks at the records for a stored response of this epoch. since is where the last look ended; 0 = there was none.
func (t *Table) Judge(s *Subject, since Number) (j Judgement) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	j.UpTo, j.Floor, j.Epoch = t.Head(), t.Floor(), t.Epoch()
	consider := func(n newest) {
		switch {
		case n.hard > s.BodyAsOf:
			j.Verdict = Forgotten
		case n.soft > s.ValidAsOf && j.Verdict != Forgotten:
			j.Verdict, j.Soft = Stale, max(j.Soft, n.soft)
		}
	}
	consider(t.names[name{KindURL, s.URL}])
	consider(t.names[name{KindAll, ""}])
	for _, tag := range s.Tags {
		consider(t.names[name{KindTag, tag}])
	}
	for _, group := range s.Groups {
		consider(t.names[name{KindGroup, groupName(OriginOf(s.URL), group)}])
	}
	for _, r := range t.listed[t.after(since):] {
		if j.Verdict == Forgotten {
			break
		}
		if n := (newest{}).with(r.Record); (n.hard > s.BodyAsOf || n.soft > s.ValidAsOf) && r.selects(s) {
			consider(n)
		}
	}
	return j
}

// after is where in the list the records after a number begin. Called with the lock held.
func (t *Table) after(n Number) int {
	i, _ := slices.BinarySearchFunc(t.listed, n+1, func(r *listed, n Number) int { return cmp.Compare(r.number, n) })
	return i
}

// SelectedSince reports whether a record that was applied after the mark, other than those named, is about the response; or may have been,
// since it is forgotten already.
func (t *Table) SelectedSince(s *Subject, since Mark, except []Seq) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if since.Number < t.Floor() || since.Epoch != t.Epoch() {
		return true
	}
	before := t.names[name{KindURL, s.URL}].before // which thin may have taken out of its list
	if before > since.Seq && !slices.Contains(except, before) {
		return true
	}
	for _, r := range slices.Backward(t.order) {
		if r.number <= since.Number {
			break
		}
		if !slices.Contains(except, r.Seq) && r.Selects(s) {
			return true
		}
	}
	return false
}

// records are all that are held, in order.
func (t *Table) records() []*Record {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*Record, 0, len(t.order))
	for _, r := range t.order {
		if r.URLs == nil || len(r.URLs) > 0 { // else newer ones forbid all that it does
			list = append(list, r.Record)
		}
	}
	return list
}

// Forget drops the records up to seq, and moves the floor: whoever has looked, or begun, before the last of them doubts what it holds.
func (t *Table) Forget(seq Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.order) && t.order[n].Seq <= seq {
		t.drop(t.order[n].Record)
		n++
	}
	if n == 0 {
		return
	}
	last := t.order[n-1].number
	t.floor.Store(uint64(last))
	t.order = slices.Delete(t.order, 0, n)
	t.listed = slices.Delete(t.listed, 0, t.after(last))
}

// drop takes one record out of the maps, where it is in them. Called with the lock held.
func (t *Table) drop(r *Record) {
	if !r.simple() {
		return
	}
	t.urls -= len(r.URLs)
	for _, n := range r.names() {
		if left := t.names[n].without(r); left.hard == 0 && left.soft == 0 {
			delete(t.names, n)
		} else {
			t.names[n] = left
		}
	}
}
