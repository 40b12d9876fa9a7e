package rule

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// index finds the rules that can be for a request without trying the others.
// Each rule is filed under what it needs of a request that the fewest rules
// share with it:
//
//   - the host, or the host's parent names, of an entry that names one;
//   - a host that matches, of an entry with a wildcard, a regex or a range of
//     addresses: these are tried once per host, and the answer is kept;
//   - four bytes that must stand in the URL, of a path, a regex or a condition;
//   - the method.
//
// A rule that needs none of these is tried on every request.
type index struct {
	exact   map[string][]*Rule // the host itself
	suffix  map[string][]*Rule // the host, and every one below it
	grams   map[gram][]*Rule
	seen    *[gramBits / 64]uint64 // hashes of the keys of grams
	inHost  bool                   // grams can stand in the Host field
	methods map[string][]*Rule
	tried   []*Rule

	hosts    map[string]*hostGroup // by what the pattern is
	projects map[*Project][]*Rule
	slots    [hostSlots]atomic.Pointer[hostSlot]
	seed     maphash.Seed
}

const (
	gramBits  = 1 << 16
	hostSlots = 256 // hosts whose answer is kept; a newer one takes the place of an older
	maxHost   = 255 // bytes of a host's name that is kept (RFC 1035 §2.3.4)
)

// hostGroup are the rules that have one pattern of hosts.
type hostGroup struct {
	host  hostPattern
	rules []*Rule
}

// hostSlot is what is known about one host.
type hostSlot struct {
	host  string
	rules []*Rule
}

// filing is one way to file a rule.
type filing struct {
	kind filingKind
	keys []string // one of which a request must have
	host hostPattern
}

type filingKind uint8

const (
	byHost filingKind = iota
	bySuffix
	byHostPattern
	byText
	byMethod
	byProject
)

func newIndex(rules []*Rule) *index {
	x := &index{
		exact: make(map[string][]*Rule), suffix: make(map[string][]*Rule), grams: make(map[gram][]*Rule),
		seen: new([gramBits / 64]uint64), methods: make(map[string][]*Rule),
		hosts: make(map[string]*hostGroup), projects: make(map[*Project][]*Rule), seed: maphash.MakeSeed(),
	}
	p := planner{shared: make(map[filingKey]int)}
	for _, r := range rules {
		p.count(r)
	}
	for _, r := range rules {
		all := p.choose(r)
		for _, f := range all {
			x.file(f, r)
		}
		if len(all) == 0 {
			x.tried = append(x.tried, r)
		}
	}
	for g := range x.grams {
		x.mark(g)
	}
	return x
}

// filingKey is one key of one kind, to count who shares it.
type filingKey struct {
	kind filingKind
	text string
	gram gram
}

// planner decides how rules are filed.
type planner struct {
	shared map[filingKey]int
}

func (p *planner) count(r *Rule) {
	for _, f := range filings(needsOfScope(&r.Scope)) {
		p.add(f)
	}
	if r.Scope.Project != nil {
		return
	}
	for _, m := range r.Scope.include {
		for _, f := range filingsOfEntry(m) {
			p.add(f)
		}
	}
}

func (p *planner) add(f filing) {
	for _, key := range f.keys {
		if f.kind != byText {
			p.shared[filingKey{kind: f.kind, text: key}]++
			continue
		}
		for _, g := range grams(key) {
			p.shared[filingKey{kind: byText, gram: g}]++
		}
	}
}

// methodCost weighs a method, which many requests have, as so many rules that
// share a key.
const methodCost = 500

// cost is how many rules are found with this one, at worst; ok is false for a
// text that is too short to be looked for.
func (p *planner) cost(f filing) (cost int, ok bool) {
	for _, key := range f.keys {
		n := p.shared[filingKey{kind: f.kind, text: key}]
		if f.kind == byText {
			_, n = p.rarest(key)
			if n == 0 {
				return 0, false
			}
		}
		cost = max(cost, n)
	}
	if f.kind == byMethod {
		cost += methodCost
	}
	return cost, true
}

// rarest is the gram of a text that the fewest rules share; 0 rules: none.
func (p *planner) rarest(text string) (best gram, rules int) {
	for _, g := range grams(text) {
		if n := p.shared[filingKey{kind: byText, gram: g}]; rules == 0 || n < rules {
			best, rules = g, n
		}
	}
	return best, rules
}

// best is the cheapest of several filings; ok is false when there is none.
func (p *planner) best(filings []filing) (best filing, cost int, ok bool) {
	for _, f := range filings {
		if c, possible := p.cost(f); possible && (!ok || c < cost) {
			best, cost, ok = f, c, true
		}
	}
	if best.kind == byText && ok { // from now on its keys are grams
		texts := best.keys
		best.keys = nil
		for _, text := range texts {
			g, _ := p.rarest(text)
			best.keys = append(best.keys, string([]byte{byte(g >> 24), byte(g >> 16), byte(g >> 8), byte(g)}))
		}
	}
	return best, cost, ok
}

// choose files a rule by what it needs as a whole, or by what each of its
// entries needs. No filing means that it is always tried.
func (p *planner) choose(r *Rule) []filing {
	whole, cost, ok := p.best(filings(needsOfScope(&r.Scope)))
	if r.Scope.Project != nil {
		if ok && whole.kind == byText {
			return []filing{whole}
		}
		return []filing{{kind: byProject}}
	}
	var each []filing
	dearest := 0
	for _, m := range r.Scope.include {
		f, c, possible := p.best(filingsOfEntry(m))
		if !possible {
			each = nil
			break
		}
		each, dearest = append(each, f), max(dearest, c)
	}
	if ok && (each == nil || cost < dearest) {
		return []filing{whole}
	}
	return each
}

func filings(needs []need) []filing {
	var all []filing
	for _, n := range needs {
		if len(n.methods) > 0 {
			all = append(all, filing{kind: byMethod, keys: n.methods})
		} else {
			all = append(all, filing{kind: byText, keys: n.texts})
		}
	}
	return all
}

func filingsOfEntry(m *matcher) []filing {
	var all []filing
	if m.regex == nil {
		switch m.host.kind {
		case hostAny:
		case hostExact:
			all = append(all, filing{kind: byHost, keys: []string{m.host.text}})
		case hostSuffix:
			all = append(all, filing{kind: bySuffix, keys: []string{m.host.text}})
		default:
			all = append(all, filing{kind: byHostPattern, keys: []string{m.host.key()}, host: m.host})
		}
	}
	return append(all, filings(needsOfEntry(m))...)
}

// key tells patterns of hosts apart.
func (h hostPattern) key() string { return string(rune('0'+h.kind)) + h.text }

func (x *index) file(f filing, r *Rule) {
	switch f.kind {
	case byProject:
		x.projects[r.Scope.Project] = append(x.projects[r.Scope.Project], r)
		return
	case byHostPattern:
		g := x.hosts[f.keys[0]]
		if g == nil {
			g = &hostGroup{host: f.host}
			x.hosts[f.keys[0]] = g
		}
		g.rules = addOnce(g.rules, r)
		return
	}
	for _, key := range f.keys {
		switch f.kind {
		case byHost:
			x.exact[key] = addOnce(x.exact[key], r)
		case bySuffix:
			x.suffix[key] = addOnce(x.suffix[key], r)
		case byMethod:
			x.methods[key] = addOnce(x.methods[key], r)
		case byText:
			g := gramOf(key)
			x.grams[g] = addOnce(x.grams[g], r)
			x.inHost = x.inHost || r.Scope.Condition != nil
		}
	}
}

// addOnce adds a rule that may be the last one already: rules are filed in
// their order.
func addOnce(list []*Rule, r *Rule) []*Rule {
	if n := len(list); n > 0 && list[n-1] == r {
		return list
	}
	return append(list, r)
}

func (x *index) mark(g gram) {
	h := g.hash()
	x.seen[h/64] |= 1 << (h % 64)
}

// hash spreads a gram over gramBits (Knuth's multiplicative method).
func (g gram) hash() uint32 { return uint32(g) * 2654435761 >> 16 }

// match appends the rules that match, in no order, and some of them twice.
func (x *index) match(v *view, dst []*Rule) []*Rule {
	host := canonicalHost(v.flow.Origin.Host)
	if len(x.exact) > 0 {
		dst = appendMatching(dst, x.exact[host], v)
	}
	if len(x.suffix) > 0 {
		for name := host; ; {
			dst = appendMatching(dst, x.suffix[name], v)
			i := strings.IndexByte(name, '.')
			if i < 0 {
				break
			}
			name = name[i+1:]
		}
	}
	if len(x.hosts)+len(x.projects) > 0 {
		dst = appendMatching(dst, x.ofHost(host), v)
	}
	if len(x.methods) > 0 {
		dst = appendMatching(dst, x.methods[string(v.request().Method())], v)
	}
	if len(x.grams) > 0 {
		dst = x.scan(dst, v.fullURL(), v)
		if x.inHost {
			dst = x.scan(dst, v.request().Host(), v)
			if target := v.request().Target(); len(target) > 0 && target[0] != '/' {
				dst = x.scan(dst, target, v) // of which the URL may lack a part
			}
		}
	}
	return appendMatching(dst, x.tried, v)
}

// scan looks at every four bytes of a text.
func (x *index) scan(dst []*Rule, text []byte, v *view) []*Rule {
	var g gram
	for i, c := range text {
		g = g.addByte(c)
		if h := g.hash(); i >= gramSize-1 && x.seen[h/64]&(1<<(h%64)) != 0 {
			dst = appendMatching(dst, x.grams[g], v)
		}
	}
	return dst
}

// ofHost are the rules whose pattern of hosts matches this one.
func (x *index) ofHost(host string) []*Rule {
	slot := &x.slots[maphash.String(x.seed, host)%hostSlots]
	if s := slot.Load(); s != nil && s.host == host {
		return s.rules
	}
	s := &hostSlot{host: strings.Clone(host)}
	for _, g := range x.hosts {
		if g.host.match(host) {
			s.rules = append(s.rules, g.rules...)
		}
	}
	for p, rules := range x.projects {
		if p.mayHave(host) {
			s.rules = append(s.rules, rules...)
		}
	}
	if len(host) <= maxHost {
		slot.Store(s)
	}
	return s.rules
}

// mayHave reports whether a URL of the host can be in the project.
func (p *Project) mayHave(host string) bool {
	for _, m := range p.include {
		if m.regex != nil || m.host.match(host) {
			return true
		}
	}
	return false
}

func appendMatching(dst, rules []*Rule, v *view) []*Rule {
	for _, r := range rules {
		if r.Scope.match(v) {
			dst = append(dst, r)
		}
	}
	return dst
}
