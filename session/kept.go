package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

// Bounds of keeping.
const (
	saveTimeout = 10 * time.Second // how long an answer waits for what it depends on
	minSaveRest = time.Second      // between two tries where nothing can be written
	maxSaveRest = 30 * time.Second
)

// keeping is what an identity's Keeper has of it. What is in memory is compared
// with it, so that nothing is forgotten that could not be written at first.
//
// An answer is delivered when what is in memory by then is durable, whoever
// brought it: see identity.settle.
type keeping struct {
	keeper Keeper
	owner  string
	first  map[string]string // what the configuration gives cookies, by row name
	// marks are of recoveries, and of tokens by "token " and their name. They are
	// replaced whole, by who holds mu.
	marks atomic.Pointer[map[string]marks]

	changes atomic.Uint64 // of tokens and sessions, so far
	// saved and savedJar are the changes, and the jar's version, that are
	// durable.
	saved, savedJar atomic.Uint64

	mu       sync.Mutex // guards what follows, and is held while rows are written
	has      map[rowKey][]byte
	at       map[rowKey]stamp       // of the rows that were written or read last
	cookies  map[string]struct{}    // row names of those that the jar had
	sessions map[string]keptSession // guarded by the engine's mu
	strange  []string               // row names of cookies that somebody else's session had
	// fence is the highest that this node has seen, of whatever a node under
	// the lease has written; login is that of the newest login. Tokens and
	// cookies have this one: what late answers of the session before bring is
	// older. owed is that of a login that is not kept yet, 0 is none.
	fence, login, owed uint64
	failing            time.Duration // until the next try; 0: the last one succeeded
	retry              *time.Timer
	retryAt            time.Time
	closed             bool

	// over says that another persona has taken its place, which writes from
	// now on.
	over atomic.Bool
}

type rowKey struct{ kind, name string }

// maxSaveRestFleet is maxSaveRest where others wait for what is kept.
const maxSaveRestFleet = time.Second

// keptSession is a session as it is kept.
type keptSession struct {
	Who        []byte
	Generation uint64
	Login      uint64 `json:",omitempty"` // the fence of the generation's login
	State      string
	Logins     uint64
	LastLogin  time.Time
	Alive      bool // the generation had a live answer
	Proven     bool // one of any generation had
	Born       time.Time
	Lives      int
	Ends       map[string]keptEnd `json:",omitempty"`
	Age, Rest  keptBound
	// Spent is, by macro, what was sent with it that no other request may
	// spend again: the digest of session.spends.
	Spent map[string]string `json:",omitempty"`
}

type keptEnd struct {
	At, Given time.Time
	Why       string
}

type keptBound struct {
	Deaths    int
	Low, High time.Duration
}

// keptToken is a token as it is kept. Was is what the configuration gave the
// variable then.
type keptToken struct {
	Name            string
	Who, Value, Was []byte
}

// keptCookie is a cookie as it is kept, likewise.
type keptCookie struct {
	Was    []byte
	Cookie json.RawMessage
}

// touch notes that tokens or sessions changed.
func (n *identity) touch() { n.kept.changes.Add(1) }

// settle returns when what is in memory is durable. Those who come while rows
// are written share the next transaction. Where nothing can be written it
// returns too: traffic goes on with what is in memory, which is tried again.
func (n *identity) settle() {
	k := &n.kept
	if k.keeper == nil || k.over.Load() {
		return
	}
	changes, version := k.changes.Load(), n.jar.Version()
	if k.isSaved(changes, version) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isSaved(changes, version) || k.failing > 0 && n.pool.engine.now().Before(k.retryAt) {
		return
	}
	_ = n.save() // it has warned
}

func (k *keeping) isSaved(changes, version uint64) bool {
	return k.saved.Load() >= changes && k.savedJar.Load() >= version
}

// save writes what differs. ErrOutdated: another node of the fleet has taken
// over, and what it brought is read. mu is held.
func (n *identity) save() error {
	k, e := &n.kept, n.pool.engine
	if k.over.Load() {
		return nil
	}
	changes := k.changes.Load()
	rows, cookies, version := n.differences()
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	var err error
	if len(rows) > 0 {
		err = k.keeper.Save(ctx, rows...)
	}
	if errors.Is(err, ErrOutdated) {
		k.owed = 0 // the other's login is newer
		return errors.Join(err, n.reread(ctx))
	}
	if err != nil {
		e.counts.unkept.Add(1)
		if k.failing == 0 {
			e.warn("%s: tokens and cookies cannot be kept over a restart, and traffic goes on with what is in memory: %v", n.title(), err)
		}
		k.failing = min(max(2*k.failing, minSaveRest), maxSaveRest)
		if e.config.Fleet != nil {
			k.failing = min(k.failing, maxSaveRestFleet)
		}
		k.retryAt = e.now().Add(k.failing)
		if !k.closed {
			k.retry = time.AfterFunc(k.failing, func() { e.spawn(n.settle) })
		}
		return err
	}
	k.owed = 0
	if k.failing > 0 {
		e.warn("%s: tokens and cookies are kept again", n.title())
		k.failing = 0
	}
	for _, r := range rows {
		key := rowKey{r.Kind, r.Name}
		if len(r.Value) == 0 {
			delete(k.has, key)
		} else {
			k.has[key] = r.Value
		}
		if at := (stamp{r.Fence, r.Version}); at.newer(k.at[key]) {
			k.at[key] = at
		}
	}
	k.cookies, k.strange = cookies, nil
	k.saved.Store(changes)
	k.savedJar.Store(version)
	return nil
}

// differences are the rows that differ from what is kept, the cookies that the
// jar has, and the version of it that they are of. mu of kept is held.
func (n *identity) differences() (rows []Row, cookies map[string]struct{}, version uint64) {
	k, e := &n.kept, n.pool.engine
	put := func(kind, name string, value []byte) {
		if !bytes.Equal(k.has[rowKey{kind, name}], value) {
			rows = append(rows, Row{Kind: kind, Owner: k.owner, Name: name, Version: e.version(), Fence: k.login, Value: value})
		}
	}
	// Tokens before sessions: see session.adopted.
	for name, t := range *n.tokens.Load() {
		if k.of(tokenMark(name)).row == "" { // set by hand, and of no use to any rule
			continue
		}
		var value []byte
		if !t.gone {
			value = n.tokenRow(name, t)
		}
		put(KeptToken, k.of(tokenMark(name)).row, value)
	}
	fence, mine := n.sessionFence()
	for _, s := range e.sessionsOf(n) {
		kept, row := s.toKeep(), k.of(s.name).row
		if row == "" { // of a rule that was switched on at this moment
			continue
		}
		if _, has := k.has[rowKey{KeptSession, row}]; !mine || !has && kept.Generation == 0 && len(kept.Spent) == 0 {
			continue // there is nothing to lose, and maybe somebody else's to leave alone
		}
		before := len(rows)
		put(KeptSession, row, encode(kept))
		for i := range rows[before:] {
			r := &rows[before+i]
			r.Fence, r.Must, r.Lease = max(fence, r.Fence), fence > 0, n.pool.leaseKey()
		}
	}
	for _, row := range k.strange {
		rows = append(rows, Row{Kind: KeptCookie, Owner: k.owner, Name: row, Version: e.version(), Fence: k.login})
	}
	changed, all, version := n.jar.Changed(k.savedJar.Load())
	cookies = maps.Clone(k.cookies)
	for i := range changed {
		name := cookieRow(&changed[i])
		cookies[name] = struct{}{}
		put(KeptCookie, name, n.cookieRowOf(&changed[i]))
	}
	if len(cookies) > all {
		there := make(map[string]struct{}, all)
		for _, c := range n.jar.All() {
			there[cookieRow(&c)] = struct{}{}
		}
		for name := range cookies {
			if _, ok := there[name]; !ok {
				delete(cookies, name)
				put(KeptCookie, name, nil)
			}
		}
	}
	return rows, cookies, version
}

// sessionFence is what sessions are kept under, and whether they are by this
// node: in a fleet, as long as it has the lease, and until a login that it made
// is kept. mu is held.
func (n *identity) sessionFence() (fence uint64, mine bool) {
	k := &n.kept
	switch l := n.pool.turns.lease.Load(); {
	case n.pool.engine.config.Fleet == nil:
		return 0, true
	case l != nil && k.fence == l.fence:
		return l.fence, true
	case k.owed > 0:
		return k.owed, true
	}
	return 0, false
}

// tokenRow is a token as it is kept.
func (n *identity) tokenRow(name string, t token) []byte {
	return encode(keptToken{Name: name, Who: n.kept.of(tokenMark(name)).who, Value: []byte(t.value), Was: []byte(n.vars()[name])})
}

// cookieRowOf is a cookie as it is kept.
func (n *identity) cookieRowOf(c *jar.Cookie) []byte {
	text, err := jar.EncodeJSON([]jar.Cookie{*c})
	if err != nil {
		return nil // it is not kept
	}
	return encode(keptCookie{Was: []byte(n.kept.first[cookieRow(c)]), Cookie: text})
}

func cookieRow(c *jar.Cookie) string {
	only := ""
	if c.HostOnly {
		only = "host"
	}
	return rowName(c.Domain, only, c.Path, c.Name)
}

// encode makes JSON of what always has one.
func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return raw
}

// version draws a version for a row: later than all before, in this process and,
// as far as clocks agree, in others.
func (e *Engine) version() uint64 {
	for {
		last := e.versions.Load()
		next := max(last+1, uint64(e.now().UnixMicro()))
		if e.versions.CompareAndSwap(last, next) {
			return next
		}
	}
}

// follow has the versions that are drawn from now on be later than one.
func (c *core) follow(version uint64) {
	for last := c.versions.Load(); last < version && !c.versions.CompareAndSwap(last, version); last = c.versions.Load() {
	}
}

// sessionsOf are the sessions of an identity that are kept.
func (e *Engine) sessionsOf(n *identity) (of []*session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sessions {
		if s.identity == n && s.recovers() {
			of = append(of, s)
		}
	}
	return of
}

// toKeep is the session as it is kept.
func (s *session) toKeep() keptSession {
	s.mu.Lock()
	kept := keptSession{Who: s.identity.kept.of(s.name).who, Generation: s.generation.Load(), Login: s.loginFence, State: s.state.String(), Logins: s.logins, LastLogin: s.lastLogin.Round(0)}
	switch {
	case s.adopted: // the tokens are there, and the generation is about to rise
		kept.Generation++
		kept.State = Alive.String()
	case s.state == Recovering:
		kept.State = Dead.String()
	}
	kept.Alive = s.lived.Load() == kept.Generation+1
	s.mu.Unlock()
	kept.Proven = s.kin.proven.Load()
	s.kin.lifetimes.mu.Lock()
	kept.Age, kept.Rest = s.kin.age.toKeep(), s.kin.rest.toKeep()
	s.kin.lifetimes.mu.Unlock()
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	kept.Born, kept.Lives = a.born.Round(0), a.lives
	for name, end := range a.ends {
		if kept.Ends == nil {
			kept.Ends = make(map[string]keptEnd)
		}
		kept.Ends[name] = keptEnd{At: end.at.Round(0), Given: end.given.Round(0), Why: end.why}
	}
	for _, spent := range []map[string]string{macroNames(a.doubtful), macroNames(a.spending)} {
		if len(spent) > 0 && kept.Spent == nil {
			kept.Spent = make(map[string]string)
		}
		maps.Copy(kept.Spent, spent)
	}
	return kept
}

func (b bound) toKeep() keptBound { return keptBound{Deaths: b.deaths, Low: b.low, High: b.high} }

// restore makes the identity what was kept of it. Nobody uses it yet.
func (n *identity) restore() error {
	k, e := &n.kept, n.pool.engine
	marks := e.marksOf(n)
	k.marks.Store(&marks)
	k.at = make(map[rowKey]stamp)
	k.has, k.cookies, k.sessions = make(map[rowKey][]byte), make(map[string]struct{}), make(map[string]keptSession)
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	rows, err := k.keeper.Load(ctx, "", k.owner)
	if err != nil {
		return fmt.Errorf("what was kept of %s cannot be read: %w", n.title(), err)
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(b.Kind, a.Kind) }) // sessions say whose the cookies are
	tokens, others := make(map[string]token), 0
	for _, r := range rows {
		switch r.Kind {
		case KeptSession, KeptToken, KeptCookie:
		default:
			continue
		}
		e.follow(r.Version)
		k.at[rowKey{r.Kind, r.Name}] = stamp{r.Fence, r.Version}
		k.fence = max(k.fence, r.Fence)
		if len(r.Value) == 0 {
			continue
		}
		ok, err := n.restoreRow(&r, tokens, others > 0)
		if err != nil {
			return fmt.Errorf("what was kept of %s cannot be read: %s %s: %w", n.title(), r.Kind, r.Name, err)
		}
		switch {
		case !ok:
			others++
		case r.Kind == KeptCookie && others > 0:
			k.strange = append(k.strange, r.Name)
		default:
			k.has[rowKey{r.Kind, r.Name}] = r.Value
		}
	}
	if others > 0 {
		e.warn("%s: what was kept of it with other credentials is not used", n.title())
	}
	n.tokens.Store(&tokens)
	for _, c := range n.jar.All() {
		k.cookies[cookieRow(&c)] = struct{}{}
	}
	k.savedJar.Store(n.jar.Version())
	return nil
}

// readSession reads a row of a session. A login of a higher fence than the row's
// was under leases of another project, from which the row was brought: here it is
// older than all.
func readSession(r *Row) (s keptSession, err error) {
	err = json.Unmarshal(r.Value, &s)
	s.Login = min(s.Login, r.Fence)
	return s, err
}

// restoreRow takes one row; false where it is of another configuration, which
// counts more than what is kept.
func (n *identity) restoreRow(r *Row, tokens map[string]token, strange bool) (ok bool, err error) {
	k := &n.kept
	switch r.Kind {
	case KeptSession:
		s, err := readSession(r)
		if err != nil {
			return false, err
		}
		if who, ours := k.whoOf(r.Name, false); !ours || !bytes.Equal(s.Who, who) {
			return !ours, nil
		}
		k.sessions[r.Name] = s
		k.login = max(k.login, s.Login)
	case KeptToken:
		var t keptToken
		if err := json.Unmarshal(r.Value, &t); err != nil {
			return false, err
		}
		if who, ours := k.whoOf(r.Name, true); !ours || !bytes.Equal(t.Who, who) || string(t.Was) != n.vars()[t.Name] {
			return !ours || bytes.Equal(t.Who, who), nil
		}
		tokens[t.Name] = token{value: string(t.Value)}
		n.remember(t.Name, string(t.Value))
	case KeptCookie:
		var c keptCookie
		if err := json.Unmarshal(r.Value, &c); err != nil || strange || string(c.Was) != k.first[r.Name] {
			return err == nil, err
		}
		cookies, err := jar.DecodeJSON(c.Cookie)
		if err != nil {
			return false, err
		}
		n.jar.Import(cookies, n.pool.engine.now())
	}
	return true, nil
}

// restore makes a session what was kept of it. Nobody uses it yet.
func (s *session) restore() {
	kept, ok := s.identity.kept.sessions[s.identity.kept.of(s.name).row]
	if !ok || !s.recovers() {
		return
	}
	s.generation.Store(kept.Generation)
	s.loginFence = kept.Login
	if i := slices.Index(stateNames[:], kept.State); i >= 0 {
		s.state = State(i)
	}
	s.logins, s.lastLogin = kept.Logins, kept.LastLogin
	if kept.Alive {
		s.lived.Store(kept.Generation + 1)
	}
	if kept.Proven {
		s.kin.proven.Store(true)
	}
	s.kin.restore(kept.Age, kept.Rest)
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range s.recovery {
		if spent := kept.Spent[m.Name]; spent != "" {
			a.doubt(m, spent)
		}
	}
	if a.policy().Off {
		return
	}
	a.born, a.lives = kept.Born, kept.Lives
	if !a.born.IsZero() {
		a.since.Store(a.born.UnixNano())
	}
	for name, end := range kept.Ends {
		a.ends[name] = ending{at: end.At, given: end.Given, why: end.Why}
	}
	s.plan()
}

// restore adds what was kept of lifetimes, where it is more than is known.
func (l *lifetimes) restore(age, rest keptBound) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if age.Deaths > l.age.deaths {
		l.age = bound{deaths: age.Deaths, low: age.Low, high: age.High}
		l.ageTop.Store(int64(age.High))
	}
	if rest.Deaths > l.rest.deaths {
		l.rest = bound{deaths: rest.Deaths, low: rest.Low, high: rest.High}
		l.restTop.Store(int64(rest.High))
	}
}

// restoreAll makes the sessions what was kept of them. What was kept under a
// name that the configuration does not have is left alone.
func (e *Engine) restoreAll() error {
	if e.config.Keeper == nil {
		return nil
	}
	for _, n := range e.everybody() {
		if err := n.begin(e.config.Keeper); err != nil {
			return err
		}
	}
	return nil
}

// begin makes an identity, and its sessions, what a keeper has of them.
func (n *identity) begin(from Keeper) error {
	e := n.pool.engine
	n.kept.keeper, n.kept.owner = from, OwnerOf(n.name, n.number)
	if err := n.restore(); err != nil {
		return err
	}
	for _, r := range e.Rules().Rules() {
		if _, ok := n.kept.sessions[n.kept.of(e.recoveryOf(r)).row]; ok {
			e.sessionOf(n, r)
		}
	}
	return nil
}

// everybody lists the identities, each session of a pool being one.
func (e *Engine) everybody() (all []*identity) {
	seen := make(map[*pool]bool)
	for _, p := range e.identities {
		if !seen[p] {
			seen[p] = true
			all = append(all, p.members...)
		}
	}
	return all
}

// settleAll is the last word on everything, when the engine is closed.
func (e *Engine) settleAll() {
	for _, n := range e.everybody() {
		k := &n.kept
		if k.keeper == nil {
			continue
		}
		k.mu.Lock()
		k.closed = true
		if k.retry != nil {
			k.retry.Stop()
		}
		if !k.isSaved(k.changes.Load(), n.jar.Version()) {
			_ = n.save() // it has warned
		}
		k.mu.Unlock()
	}
}
