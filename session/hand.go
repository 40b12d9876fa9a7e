package session

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
)

// What a person does to sessions by hand. An identity that does not exist is an
// *flow.Error with flow.ReasonIdentity; "" is the one that speaks where nobody
// is named.

// Value is a token or a variable with its value, a secret.
type Value struct {
	Name    string
	Value   string
	Session int // of which of the identity's sessions a token is, from 1; 0 where it has one
}

// Names lists the identities; a configuration that names none has one, "".
func (e *Engine) Names() []string {
	if len(e.config.Identities) == 0 {
		return []string{""}
	}
	names := make([]string, len(e.config.Identities))
	for i, id := range e.config.Identities {
		names[i] = id.Name
	}
	return names
}

// Overview lists the sessions that there are or may be: of each identity one
// for each way to recover, those of rules that are never recovered included
// once they are in use.
func (e *Engine) Overview() []Status {
	list := e.Status()
	known := make(map[string]bool, len(list))
	key := func(identity string, number int, recovery []string) string {
		return fmt.Sprint(identity, "\x00", number, "\x00", strings.Join(recovery, ","))
	}
	for _, st := range list {
		known[key(st.Identity, st.Session, st.Recovery)] = true
	}
	recoveries := e.recoveryNames()
	for _, name := range e.Names() {
		p := e.identities[name]
		for _, m := range p.members {
			for _, recovery := range recoveries {
				st := Status{Identity: m.name, Recovery: namesOf(recovery), State: Unknown.String()}
				if len(p.members) > 1 {
					st.Session, st.Sessions = m.number+1, len(p.members)
				}
				if k := key(st.Identity, st.Session, st.Recovery); recovery != "" && !known[k] {
					known[k] = true
					list = append(list, st)
				}
			}
		}
	}
	rules := e.ruling.Load()
	for i := range list {
		st := &list[i]
		for _, r := range rules.set.Rules() {
			if slices.Equal(namesOf(rules.recoveries[r]), namesOf(strings.Join(st.Recovery, ","))) {
				st.Rules = append(st.Rules, r.Name)
			}
		}
		n, locked := e.guard.count(lockKey{st.Identity, recoveryKey(st.Recovery)})
		if st.Failures = n; locked {
			st.State = Locked.String()
		}
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(strings.Compare(a.Identity, b.Identity), cmp.Compare(a.Session, b.Session), slices.Compare(a.Recovery, b.Recovery))
	})
	return list
}

// recoveryKey is the name of a recovery of which namesOf made the list.
func recoveryKey(names []string) string {
	names = slices.Clone(names)
	if n := len(names); n > 0 && names[n-1] == "browser" {
		names[n-1] = byBrowser
	}
	return strings.Join(names, ",")
}

// recoveryNames are those of the rules that hold, each once.
func (e *Engine) recoveryNames() []string {
	return slices.Compact(slices.Sorted(maps.Values(e.ruling.Load().recoveries)))
}

// sessionsIn are the sessions of an identity; with every, those that a rule
// would have it begin are made.
func (e *Engine) sessionsIn(p *pool, every bool) (all []*session) {
	if every {
		seen := make(map[string]bool)
		for r, name := range e.ruling.Load().recoveries {
			if name == "" || seen[name] {
				continue
			}
			seen[name] = true
			for _, m := range p.members {
				e.sessionOf(m, r)
			}
		}
	}
	e.mu.Lock()
	for key, s := range e.sessions {
		if key.identity.pool == p {
			all = append(all, s)
		}
	}
	e.mu.Unlock()
	slices.SortFunc(all, func(a, b *session) int {
		return cmp.Or(cmp.Compare(a.identity.number, b.identity.number), strings.Compare(a.name, b.name))
	})
	return all
}

// Refresh makes new sessions of an identity by its recoveries, once for
// everybody, and returns when they are there, or with the first reason why one
// is not. It counts as any other recovery does. n is how many were made.
func (e *Engine) Refresh(ctx context.Context, identity string) (n int, failed *flow.Error) {
	p, failed := e.poolOf(identity)
	if failed != nil {
		return 0, failed
	}
	for _, s := range e.sessionsIn(p, true) {
		if !s.recovers() {
			continue
		}
		if failed := s.renew(ctx, s.generation.Load()); failed != nil {
			return n, failed
		}
		n++
	}
	return n, nil
}

// Unlock forgets the failed logins of an identity, so that it may log in again.
// n is how many of its ways to log in had any. The error is the store's.
func (e *Engine) Unlock(identity string) (n int, err error) {
	p, failed := e.poolOf(identity)
	if failed != nil {
		return 0, failed
	}
	for _, recovery := range e.recoveryNames() {
		key := lockKey{p.members[0].name, recovery}
		if had, _ := e.guard.count(key); had == 0 {
			continue
		}
		if err := e.guard.forgive(key); err != nil {
			return n, err
		}
		n++
	}
	for _, s := range e.sessionsIn(p, false) {
		s.mu.Lock()
		if s.state == Locked {
			s.state, s.lastError = Dead, nil
			s.told(Handed, nil, 0)
			s.identity.touch()
		}
		s.mu.Unlock()
	}
	p.settle()
	return n, nil
}

// Forget drops the tokens and cookies of an identity; the next request of each
// session recovers it first. The origin hears nothing of it. n is how many
// sessions there were.
func (e *Engine) Forget(identity string) (n int, failed *flow.Error) {
	p, failed := e.poolOf(identity)
	if failed != nil {
		return 0, failed
	}
	for _, m := range p.members {
		m.renew(nil, slices.Collect(maps.Keys(*m.tokens.Load())), e.next)
		m.jar.Clear("", e.next())
	}
	all := e.sessionsIn(p, false)
	for _, s := range all {
		s.handed(true)
	}
	p.settle()
	return len(all), nil
}

// handed says that what a session consists of is no longer what it was: it is
// a new generation, of which nothing is known, or which is known to be gone.
func (s *session) handed(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil || s.state == Locked { // what comes of it decides
		return
	}
	s.generation.Add(1)
	if s.state = Unknown; gone && s.recovers() {
		s.state = Dead
	}
	s.told(Handed, nil, 0)
	s.identity.touch()
}

// settle returns when what was changed by hand is kept, as far as it can be.
func (p *pool) settle() {
	for _, m := range p.members {
		m.settle()
	}
}

// Settle returns when what was changed in an identity's jar by hand is kept
// over a restart, as far as it can be.
func (e *Engine) Settle(identity string) {
	if p, ok := e.identities[identity]; ok {
		p.settle()
	}
}

// members are the sessions of an identity that a number means: 0 is all.
func (e *Engine) members(who string, number int) ([]*identity, *flow.Error) {
	p, failed := e.poolOf(who)
	if failed != nil {
		return nil, failed
	}
	if number == 0 {
		return p.members, nil
	}
	if number < 0 || number > len(p.members) {
		return nil, &flow.Error{Status: 404, Reason: flow.ReasonIdentity, Detail: fmt.Sprintf("%s has no session %d", p.members[0].title(), number),
			Next: fmt.Sprintf("name one of 1 to %d, or none", len(p.members))}
	}
	return p.members[number-1 : number], nil
}

// Tokens lists the tokens that have a value, by name.
func (e *Engine) Tokens(identity string) ([]Value, *flow.Error) {
	p, failed := e.poolOf(identity)
	if failed != nil {
		return nil, failed
	}
	var all []Value
	for _, m := range p.members {
		number := 0
		if len(p.members) > 1 {
			number = m.number + 1
		}
		for name, t := range *m.tokens.Load() {
			if !t.gone {
				all = append(all, Value{name, t.value, number})
			}
		}
	}
	slices.SortFunc(all, func(a, b Value) int {
		return cmp.Or(cmp.Compare(a.Session, b.Session), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// SetToken gives a token a value, in the session with that number or, with 0,
// in all of them. Sessions that put it into requests count as new ones, of
// which nothing is known.
func (e *Engine) SetToken(who string, number int, name, value string) *flow.Error {
	return e.changeToken(who, number, name, func(m *identity) bool {
		m.learn(map[string]string{name: value}, e.next(), e.next)
		return true
	}, false)
}

// DeleteToken takes a token's value away. had says whether there was one. A
// session that puts it into requests is recovered before the next request.
func (e *Engine) DeleteToken(who string, number int, name string) (had bool, failed *flow.Error) {
	failed = e.changeToken(who, number, name, func(m *identity) bool {
		t, ok := (*m.tokens.Load())[name]
		if !ok || t.gone {
			return false
		}
		m.drop(name, e.next)
		had = true
		return true
	}, true)
	return had, failed
}

func (e *Engine) changeToken(who string, number int, name string, change func(*identity) bool, gone bool) *flow.Error {
	members, failed := e.members(who, number)
	if failed != nil {
		return failed
	}
	for _, m := range members {
		if !change(m) {
			continue
		}
		for _, s := range e.sessionsIn(m.pool, false) {
			if s.identity == m && slices.Contains(e.tokensOf(s), name) {
				s.handed(gone)
			}
		}
		m.settle()
	}
	return nil
}

// drop takes a token away, so that answers under way do not bring it back.
func (n *identity) drop(name string, draw func() uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := maps.Clone(*n.tokens.Load())
	next[name] = token{gone: true, set: unset}
	n.publish(next, draw, true)
	n.touch()
}

// Variables lists the variables of an identity, global ones included, by name.
func (e *Engine) Variables(identity string) ([]Value, *flow.Error) {
	p, failed := e.poolOf(identity)
	if failed != nil {
		return nil, failed
	}
	vars := p.members[0].vars()
	all := make([]Value, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		all = append(all, Value{Name: name, Value: vars[name]})
	}
	return all, nil
}

// Globals lists the variables that every identity has.
func (e *Engine) Globals() []Value {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Value, 0, len(e.globals))
	for _, name := range slices.Sorted(maps.Keys(e.globals)) {
		all = append(all, Value{Name: name, Value: e.globals[name]})
	}
	return all
}

// SetVariable gives a variable of an identity a value, or with nil takes it
// away; everybody's where global. had says whether there was one. A global one
// of the same name shows where an identity's own is taken away. It holds in this
// engine; the next one has what its Config says.
func (e *Engine) SetVariable(identity string, global bool, name string, value *string) (had bool, failed *flow.Error) {
	p, failed := e.poolOf(identity)
	if failed != nil && !global {
		return false, failed
	}
	defer e.remark() // other credentials are somebody else's session
	e.mu.Lock()
	defer e.mu.Unlock()
	change := func(m map[string]string) map[string]string {
		if m = maps.Clone(m); m == nil {
			m = make(map[string]string)
		}
		_, had = m[name]
		if delete(m, name); value != nil {
			m[name] = *value
		}
		return m
	}
	if global {
		e.globals = change(e.globals)
		for _, p := range e.identities {
			p.define(e.globals, p.own)
		}
		return had, nil
	}
	p.define(e.globals, change(p.own))
	return had, nil
}

// define gives all sessions of an identity their variables. The engine's mu is
// held.
func (p *pool) define(global, own map[string]string) {
	p.own = own
	for _, m := range p.members {
		m.define(global, own)
	}
}

// Jar is the jar of an identity's session, for a person to look at and to
// change; 0 is the first. Any goroutine may use it.
func (e *Engine) Jar(who string, number int) (*jar.Jar, *flow.Error) {
	members, failed := e.members(who, number)
	if failed != nil {
		return nil, failed
	}
	return members[0].jar, nil
}

// Sequence draws a sequence number: a change of a jar with it keeps the answers
// to earlier requests from undoing it.
func (e *Engine) Sequence() uint64 { return e.next() }

// RunMacro runs a macro by its name or ID once for an identity's first session,
// with its cookies, and keeps what it brings as tokens. The macro's own failure
// is a *macro.StepError; it does not count for the lockout.
func (e *Engine) RunMacro(ctx context.Context, who, name string, inputs map[string]string) (*macro.Result, error) {
	m := e.macros[name]
	if m == nil {
		return nil, e.noMacro(name)
	}
	p, failed := e.poolOf(who)
	if failed != nil {
		return nil, failed
	}
	n := p.members[0]
	turn := n.turnOf(m)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	with, left := withInputs(m, inputs)
	s := &session{engine: e, identity: n}
	env := s.env()
	env.Lookup = func(name string) (string, bool) {
		if v, ok := left[name]; ok {
			return v, true
		}
		return n.lookup(name)
	}
	env.Send = watched(ctx, env.Send)
	order := e.next()
	result, err := with.Run(ctx, env)
	if err != nil {
		return nil, err
	}
	n.learn(result.Values, order, e.next)
	n.settle()
	return result, nil
}
