package session

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

// stamp orders the rows of one name.
type stamp struct{ fence, version uint64 }

func (a stamp) newer(b stamp) bool {
	return a.fence > b.fence || a.fence == b.fence && a.version > b.version
}

// refresh reads what is kept of the identity, and takes what other nodes have
// made newer.
func (n *identity) refresh(ctx context.Context) error {
	k := &n.kept
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	k.mu.Lock()
	err := n.reread(ctx)
	k.mu.Unlock()
	if err == nil {
		n.pool.turns.tell()
	}
	return err
}

// reread is refresh with mu of kept held.
func (n *identity) reread(ctx context.Context) error {
	rows, err := n.kept.keeper.Load(ctx, "", n.kept.owner)
	if err != nil {
		return err
	}
	return n.takeRows(rows)
}

// takeRows takes those that are newer than what is known. Where another node
// has logged in since, what was to be kept of the session before is over. mu of
// kept is held.
func (n *identity) takeRows(rows []Row) error {
	k, e := &n.kept, n.pool.engine
	login := k.login
	for i := range rows {
		switch r := &rows[i]; r.Kind {
		case KeptSession:
			if s, ok := n.ofSession(r); ok {
				login = max(login, s.Login)
			}
			fallthrough
		case KeptToken, KeptCookie:
			k.fence = max(k.fence, r.Fence)
		}
	}
	over := login > k.login
	tokens, sessions := make(map[string]token), make(map[string]keptSession)
	for i := range rows {
		r := &rows[i]
		key, at := rowKey{r.Kind, r.Name}, stamp{r.Fence, r.Version}
		known := !at.newer(k.at[key])
		if known && !over {
			continue
		}
		e.follow(r.Version)
		var err error
		switch r.Kind {
		case KeptSession:
			if s, ok := n.ofSession(r); ok && !known {
				sessions[r.Name] = s
			}
		case KeptToken:
			err = n.readToken(r, over, tokens)
		case KeptCookie:
			if !known {
				err = n.readCookie(r)
			}
		default:
			continue
		}
		if err != nil {
			return err
		}
		k.at[key] = at
		if len(r.Value) == 0 {
			delete(k.has, key)
		} else if r.Kind != KeptCookie {
			k.has[key] = r.Value
		}
	}
	k.login = login
	born := uint64(0)
	if len(tokens) > 0 {
		born = n.takeTokens(tokens)
	}
	for name, kept := range sessions {
		if s := e.keptSession(n, name, kept); s != nil {
			s.takeOver(kept, born)
		}
	}
	return nil
}

// keptSession is the session that a row is of; nil, if it is made later from
// what is noted here.
func (e *Engine) keptSession(n *identity, name string, kept keptSession) *session {
	e.mu.Lock()
	defer e.mu.Unlock()
	n.kept.sessions[name] = kept
	for _, s := range e.sessions {
		if s.identity == n && s.recovers() && n.kept.of(s.name).row == name {
			return s
		}
	}
	return nil
}

// readToken notes a token whose value in memory is another one. One that this
// node was about to keep stays, unless the session that it is of is over.
func (n *identity) readToken(r *Row, over bool, into map[string]token) error {
	k := &n.kept
	if len(r.Value) == 0 {
		for name, had := range *n.tokens.Load() {
			if k.of(tokenMark(name)).row == r.Name && !had.gone && (over || n.isKept(name, had)) {
				into[name] = token{gone: true, set: unset}
			}
		}
		return nil
	}
	var t keptToken
	if err := json.Unmarshal(r.Value, &t); err != nil {
		return err
	}
	name := t.Name
	who, ours := k.whoOf(r.Name, true)
	if !ours || !bytes.Equal(t.Who, who) || string(t.Was) != n.vars()[name] {
		return nil // of another configuration
	}
	had, known := (*n.tokens.Load())[name]
	known = known && !had.gone
	switch {
	case known && had.value == string(t.Value):
	case over || !known || n.isKept(name, had):
		into[name] = token{value: string(t.Value), set: unset}
	}
	return nil
}

// isKept reports whether a token is what was last kept or read of it.
func (n *identity) isKept(name string, t token) bool {
	return bytes.Equal(n.kept.has[rowKey{KeptToken, n.kept.of(tokenMark(name)).row}], n.tokenRow(name, t))
}

// takeTokens makes them those that requests read. Answers to requests that were
// sent before change none of them.
func (n *identity) takeTokens(tokens map[string]token) (born uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := maps.Clone(*n.tokens.Load())
	maps.Copy(next, tokens)
	return n.publish(next, n.pool.engine.next, true)
}

// ofSession is what a row says of a session; not where there is none, or it is
// of another configuration.
func (n *identity) ofSession(r *Row) (kept keptSession, ok bool) {
	who, ours := n.kept.whoOf(r.Name, false)
	kept, err := readSession(r)
	return kept, err == nil && ours && bytes.Equal(kept.Who, who)
}

// readCookie gives the jar a cookie, and notes how it is there, so that it is
// not written again.
func (n *identity) readCookie(r *Row) error {
	k, e := &n.kept, n.pool.engine
	if len(r.Value) == 0 {
		for _, c := range n.jar.All() {
			if cookieRow(&c) == r.Name {
				n.jar.Delete(c.ID, e.next())
			}
		}
		delete(k.cookies, r.Name)
		return nil
	}
	var kept keptCookie
	if err := json.Unmarshal(r.Value, &kept); err != nil || string(kept.Was) != k.first[r.Name] {
		return err
	}
	cookies, err := jar.DecodeJSON(kept.Cookie)
	if err != nil || len(cookies) != 1 {
		return err
	}
	before := n.jar.Version()
	n.jar.Import(cookies, e.now())
	changed, _, _ := n.jar.Changed(before)
	for i := range changed {
		if c := &changed[i]; cookieRow(c) == r.Name && c.Value == cookies[0].Value {
			k.has[rowKey{KeptCookie, r.Name}] = n.cookieRowOf(c)
			k.cookies[r.Name] = struct{}{}
		}
	}
	return nil
}

// takeOver makes the session that another node has brought this one's.
func (s *session) takeOver(kept keptSession, born uint64) {
	a := &s.ahead
	a.mu.Lock()
	for _, m := range s.recovery {
		if spent := kept.Spent[m.Name]; spent != "" {
			a.doubt(m, spent)
		}
	}
	a.mu.Unlock()
	s.mu.Lock()
	known := kept.Login <= s.loginFence
	s.mu.Unlock()
	if known {
		return
	}
	s.bornElsewhere(kept) // before the generation rises: see startAhead
	s.mu.Lock()
	if born == 0 {
		born = s.engine.next()
	}
	s.born.Store(born)
	s.final.Store(nil)
	s.loginFence = kept.Login
	generation := max(s.generation.Load()+1, kept.Generation)
	s.generation.Store(generation)
	s.barren = generation // whoever made it counts that it brought nothing
	s.logins, s.lastLogin, s.lastError = kept.Logins, kept.LastLogin, nil
	// Also where a recovery of the generation before is under way, which is about
	// to see this one: state and generation change together, or who reads them
	// in between would have this session recovered.
	s.state = Alive
	if s.running == nil {
		s.told(Ended, nil, 0)
	}
	s.mu.Unlock()
	s.identity.births.Add(1)
	if kept.Proven {
		s.kin.proven.Store(true)
	}
	s.kin.restore(kept.Age, kept.Rest)
}

// bornElsewhere begins anew with the ends that another node knows.
func (s *session) bornElsewhere(kept keptSession) {
	a := &s.ahead
	if a.policy().Off {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin(kept.Born)
	for name, end := range kept.Ends {
		a.ends[name] = ending{at: end.At, given: end.Given, why: end.Why}
	}
	s.plan()
}

// settleAgain is settle for a keeper that is back.
func (n *identity) settleAgain() {
	k := &n.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retryAt = time.Time{}
	if k.failing > 0 && !k.closed {
		_ = n.save() // it has warned
	}
}

// insist is settle for what must be kept before anything else is done.
func (n *identity) insist() error {
	k := &n.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	return n.save()
}
