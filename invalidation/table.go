package invalidation

import (
	"cmp"
	"slices"
	"strings"
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

type newest struct{ hard, soft Seq }

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
	t.listed, t.order = nil, nil
	number := t.Head() + 1
	t.floor.Store(uint64(number))
	t.moveTo(Mark{number, at})
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
	default:
		return []name{{r.Kind, r.Selector}}
	}
}

// groupName is unique since neither an origin nor a structured string has NUL.
func groupName(origin, group string) string { return origin + "\x00" + group }

func (n newest) with(r *Record) newest {
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
	list := make([]*Record, len(t.order))
	for i, r := range t.order {
		list[i] = r.Record
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
	t.floor.Store(uint64(t.order[n-1].number))
	t.order = slices.Delete(t.order, 0, n)
}

// drop takes one record out of the maps or the list. Called with the lock held, in order.
func (t *Table) drop(r *Record) {
	if !r.simple() {
		t.listed = slices.Delete(t.listed, 0, 1) // the oldest of them
		return
	}
	for _, n := range r.names() {
		if left := t.names[n].without(r); left == (newest{}) {
			delete(t.names, n)
		} else {
			t.names[n] = left
		}
	}
}

// Unfiltered reports whether the record asks nothing of a response but what its selector does.
func (r *Record) Unfiltered() bool { return r.Filters.empty() }

// Selects reports whether the record is about the response, whenever it was stored.
func (r *Record) Selects(s *Subject) bool {
	glob, _ := CompileGlob(r.Selector)
	return (&listed{numbered{Record: r}, glob}).selects(s)
}

// selects is Selects with the glob compiled.
func (r *listed) selects(s *Subject) bool { return r.Filters.pass(s) && r.isAbout(s) }

// isAbout is selects without the filters.
func (r *listed) isAbout(s *Subject) bool {
	switch r.Kind {
	case KindURL:
		return sameURL(r.Selector, s.URL)
	case KindPattern:
		if strings.Contains(r.Selector, "://") {
			return r.glob.Match(s.URL)
		}
		return r.glob.Match(withoutScheme(s.URL))
	case KindTag:
		for _, tag := range r.Tags {
			if slices.Contains(s.Tags, tag) != r.MatchAll {
				return !r.MatchAll
			}
		}
		return r.MatchAll
	case KindGroup:
		return r.Origin == OriginOf(s.URL) && slices.Contains(s.Groups, r.Group)
	}
	return true
}

// sameURL compares a selector, which may lack the scheme, with a cache URL.
func sameURL(selector, url string) bool {
	if strings.Contains(selector, "://") {
		return selector == url
	}
	return selector == withoutScheme(url)
}

func withoutScheme(url string) string {
	if _, rest, found := strings.Cut(url, "://"); found {
		return rest
	}
	return url
}

// OriginOf is scheme://host[:port] of a cache URL, whose default port is left out already.
func OriginOf(url string) string {
	scheme, rest, found := strings.Cut(url, "://")
	if !found {
		return ""
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return scheme + "://" + rest
}

// pass reports whether the filters let the response be selected.
func (f *Filters) pass(s *Subject) bool {
	switch {
	case len(f.Status) > 0 && !slices.ContainsFunc(f.Status, func(n int) bool { return n == s.Status || n == s.Status/100 }):
		return false
	case len(f.ContentType) > 0 && !slices.ContainsFunc(f.ContentType, func(p string) bool { return mediaTypeMatches(p, s.ContentType) }):
		return false
	case f.StoredBefore > 0 && s.StoredAt >= f.StoredBefore:
		return false
	}
	return s.Size < 0 || s.Size >= f.MinSize && (f.MaxSize == 0 || s.Size <= f.MaxSize)
}

// mediaTypeMatches compares without parameters and case; the pattern's `*` stands for any text.
func mediaTypeMatches(pattern, contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	pattern = strings.ToLower(pattern)
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return kind == pattern
	}
	return len(kind) >= len(before)+len(after) && strings.HasPrefix(kind, before) && strings.HasSuffix(kind, after)
}
