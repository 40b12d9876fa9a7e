package session

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
)

// Handover says what became of the sessions when another configuration began to
// hold. Sessions are named by their identity and the macros that recover them.
type Handover struct {
	GoOn   int      // sessions that are as they were
	Anew   []string // that begin anew: their macros or credentials are others
	GaveUp []string // that nobody needs any more: the identity or the rules are gone
}

// maxLives bounds what is remembered of sessions that no rule has any more, in
// case that one has them again.
const maxLives = 4096

// Next makes the engine of another configuration, which goes on with what this
// one has. Requests that began under this one end under it, and so do recoveries
// that are under way; the two engines have the sessions in common that mean the
// same under both: those of an identity of the same name, whose macros are the
// same and send the same credentials to the same hosts. Other sessions of an
// identity begin anew, and so does their count of failed logins. In a fleet the
// text of a macro may be another, as it is for a while where it is changed on one
// node after the other: sessions go on as they are kept.
//
// This engine is the newest one; one call at a time is made. What c says of
// Keeper, Fleet and the functions is what this one's Config says. An error leaves
// everything as it was.
func (e *Engine) Next(c Config) (*Engine, *Handover, error) {
	next, err := newEngine(e.core, c, e)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range c.Identities {
		next.identities[id.Name] = newPool(next, id, e.identities[id.Name])
	}
	var alone *pool
	if len(e.config.Identities) == 0 {
		alone = e.identities[""]
	}
	next.standIn(alone)
	change := &passage{from: e, to: next}
	if err := change.prepare(); err != nil {
		change.undo()
		return nil, nil, err
	}
	return next, change.complete(), nil
}

// passage is the way from one engine to the next.
type passage struct {
	from, to *Engine
	stay     map[*persona]*identity // those that both have, as the next one has them
	left     []*identity            // those that the next one does not have
	changed  map[lockKey]bool       // recoveries that are others, by their identities
}

// prepare has the next engine know what it goes on with.
func (p *passage) prepare() error {
	p.stay, p.changed = make(map[*persona]*identity), make(map[lockKey]bool)
	had := make(map[*persona]bool)
	for _, n := range p.from.everybody() {
		had[n.persona] = true
	}
	var fresh []*identity
	for _, n := range p.to.everybody() {
		if had[n.persona] {
			p.stay[n.persona] = n
		} else {
			fresh = append(fresh, n)
		}
	}
	for _, n := range p.from.everybody() {
		if p.stay[n.persona] == nil {
			p.left = append(p.left, n)
		}
	}
	for _, s := range p.from.all() {
		if n := p.stay[s.identity.persona]; n != nil {
			p.to.carry(n, s.name)
		}
	}
	for _, n := range fresh {
		if err := p.inherit(n); err != nil {
			return err
		}
	}
	return nil
}

// all are the sessions that there are.
func (e *Engine) all() []*session {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.sessions))
}

// carry makes the session of an identity under a recovery, where a rule has it.
func (e *Engine) carry(n *identity, recovery string) {
	rules := e.ruling.Load()
	for _, r := range rules.set.Rules() {
		if rules.recoveries[r] == recovery {
			e.sessionOf(n, r)
			return
		}
	}
}

// inherit gives an identity what still means the same of the one before.
func (p *passage) inherit(n *identity) error {
	var before *identity
	for _, o := range p.left {
		if o.name == n.name && o.number == n.number {
			before = o
		}
	}
	keeper := p.to.config.Keeper
	if before != nil {
		for _, name := range n.differs(before) {
			key := lockKey{n.name, name}
			p.changed[key] = true
			p.to.mu.Lock()
			delete(p.to.kin, key)
			p.to.mu.Unlock()
		}
		if keeper != nil {
			before.settle()
			before.kept.over.Store(true)
		} else {
			keeper = before.remembered()
		}
	}
	if keeper == nil {
		return nil
	}
	err := n.begin(keeper)
	n.kept.keeper = p.to.config.Keeper
	return err
}

// undo is the end of a passage that failed.
func (p *passage) undo() {
	for _, n := range p.left {
		n.kept.over.Store(false)
	}
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	for key, l := range p.to.lives {
		if l.ahead.belongsTo(p.to) {
			l.ahead.giveUp()
			delete(p.to.lives, key)
		}
	}
}

// complete has the next engine be the one that counts.
func (p *passage) complete() *Handover {
	out := &Handover{}
	e := p.to
	e.guard.follow(e.config.Lockout)
	e.memory.limit.Store(e.limits.Memory)
	e.disk.limit.Store(e.limits.Disk)
	e.newest.Store(e)
	for key := range p.changed {
		e.forgive(key)
	}
	lives := make(map[*life]bool)
	for _, s := range e.all() {
		s.belong()
		s.replan()
		lives[s.life] = true
	}
	for _, s := range p.from.all() {
		switch {
		case !s.recovers():
		case lives[s.life]:
			out.GoOn++
		case !p.to.mayHave(s):
			out.GaveUp = append(out.GaveUp, s.words())
		case p.to.goesOn(s, p.changed[s.key]):
			out.GoOn++ // as it was kept
		default:
			out.Anew = append(out.Anew, s.words())
		}
	}
	for _, n := range p.left {
		n.settle()
		n.kept.over.Store(true)
	}
	e.mu.Lock()
	for key, l := range e.lives {
		if lives[l] {
			continue
		}
		l.ahead.giveUp()
		if p.stay[key.persona] == nil || len(e.lives) > maxLives {
			delete(e.lives, key)
		}
	}
	maps.DeleteFunc(e.kin, func(key lockKey, _ *kin) bool { return e.identities[key.identity] == nil })
	e.mu.Unlock()
	e.remark()
	slices.Sort(out.Anew)
	slices.Sort(out.GaveUp)
	return out
}

// goesOn reports whether there is a session like one of another engine. One
// whose recovery has changed is it only where there was a login already, by what is
// kept of it: a fleet's, under another text of a macro. mayHave reports whether one
// can come to be.
func (e *Engine) goesOn(like *session, changed bool) bool {
	return slices.ContainsFunc(e.all(), func(s *session) bool {
		return s.key == like.key && s.identity.number == like.identity.number && (!changed || s.generation.Load() > 0)
	})
}

func (e *Engine) mayHave(like *session) bool {
	p := e.identities[like.identity.name]
	return p != nil && like.identity.number < len(p.members) && slices.Contains(e.recoveryNames(), like.name)
}

// words name the session for a person.
func (s *session) words() string { return s.title() + ": " + strings.Join(namesOf(s.name), ", ") }

func (a *ahead) belongsTo(e *Engine) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.owner != nil && a.owner.engine == e
}

// sameMacro is the engine's own macro that does what m does, or m.
func (e *Engine) sameMacro(m *macro.Macro) *macro.Macro {
	if had := e.macros[m.Name]; had != nil && had.Name == m.Name && had.ID == m.ID && m.Digest != "" && had.Digest == m.Digest {
		return had
	}
	return m
}

// goesOn makes n what o was, under another configuration, where it means the
// same: then it returns true. Nobody uses n yet.
func (n *identity) goesOn(o *identity) bool {
	if len(n.differs(o)) > 0 {
		return false
	}
	ours, theirs := n.vars(), o.vars()
	for name := range n.pool.engine.tokens { // what the file says of a token is the newer word
		if v, ok := ours[name]; ok && v != theirs[name] {
			return false
		}
	}
	n.persona = o.persona
	if n.slot != nil && o.slot != nil {
		n.slot = o.slot
	}
	return true
}

// differs are the recoveries that both have, and that are not the same.
func (n *identity) differs(o *identity) (names []string) {
	e, before := n.pool.engine, o.pool.engine
	had := before.recoveries()
	for name, macros := range e.recoveries() {
		were, ok := had[name]
		if !ok {
			continue
		}
		same := slices.Equal(macros, were)
		for i := 0; same && i < len(macros); i++ {
			same = slices.Equal(e.credentialsOf(n, macros[i]), before.credentialsOf(o, were[i])) && slices.Equal(n.hosts(macros[i]), o.hosts(were[i]))
		}
		if !same {
			names = append(names, name)
		}
	}
	return names
}

// recoveries are the macros of the rules' recoveries, by their names.
func (e *Engine) recoveries() map[string][]*macro.Macro {
	all := make(map[string][]*macro.Macro)
	for r, name := range e.ruling.Load().recoveries {
		if name == "" || all[name] != nil {
			continue
		}
		macros := make([]*macro.Macro, 0, len(r.Recovery)+1)
		for _, m := range r.Recovery {
			macros = append(macros, e.macros[m])
		}
		all[name] = macros
	}
	return all
}

// bring gives a jar what the configuration says that it begins with.
func (n *identity) bring(cookies []jar.Cookie) {
	k, now := &n.kept, n.pool.engine.now()
	as := newJar() // the jar has its own way to write them
	as.Import(cookies, now)
	k.mu.Lock()
	defer k.mu.Unlock()
	n.jar.Import(cookies, now)
	k.first = make(map[string]string)
	for _, c := range as.All() {
		k.first[cookieRow(&c)] = c.Value
	}
}

func sameCookie(a, b jar.Cookie) bool {
	a.Created, a.Updated, a.LastAccess = b.Created, b.Updated, b.LastAccess // when the file was read
	return a == b
}

// rows is a Keeper with what was remembered of one identity.
type rows []Row

func (r rows) Load(context.Context, string, string) ([]Row, error) { return r, nil }

func (r rows) Save(context.Context, ...Row) error { return nil }

// remembered is what a keeper would have of an identity that has none.
func (n *identity) remembered() rows {
	k := &n.kept
	marks := n.pool.engine.marksOf(n)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.marks.Store(&marks)
	k.has, k.cookies = make(map[rowKey][]byte), make(map[string]struct{})
	all, _, _ := n.differences()
	for i := range all {
		all[i].Value = bytes.Clone(all[i].Value)
	}
	return all
}
