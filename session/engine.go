package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/script"
)

// Limits bound what the engine holds and how long it waits. Zero means the
// default named with each.
type Limits struct {
	ResendBody  int64         // bytes of a request body that are kept for sending again; 64 MiB
	MemoryBody  int64         // bytes of it that stay in memory, the rest is spooled to a file; 1 MiB
	EditedBody  int64         // bytes of a request body that tokens are put into; 1 MiB
	JudgedBody  int64         // bytes of a response body that a condition or a source may ask about; 1 MiB
	Memory      int64         // bytes of bodies held in memory by all flows, the first 64 KiB of each not counted; 256 MiB
	Disk        int64         // bytes of request bodies in files, by all flows; 8 GiB
	Hold        time.Duration // how long a body is held back for a condition; 5 s
	Wait        time.Duration // how long a request waits for a recovery; 60 s
	Unreachable time.Duration // how long a recovery tries again while the origin refuses connections; 20 s
	Script      script.Limits // of scripts that name none
}

func (l Limits) withDefaults() Limits {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.ResendBody, 64<<20)
	set(&l.MemoryBody, 1<<20)
	set(&l.EditedBody, 1<<20)
	set(&l.JudgedBody, 1<<20)
	set(&l.Memory, 256<<20)
	set(&l.Disk, 8<<30)
	set((*int64)(&l.Hold), int64(5*time.Second))
	set((*int64)(&l.Wait), int64(time.Minute))
	set((*int64)(&l.Unreachable), int64(20*time.Second))
	return l
}

// Config is what an engine is made of. It is not changed after New.
type Config struct {
	Rules      *rule.Set
	Macros     []*macro.Macro
	Variables  map[string]string
	Identities []Identity
	Lockout    Lockout
	Limits     Limits
	Feed       Feed // the zero value feeds nothing
	// Credentials are the names of the request fields that are taken out of
	// anonymous requests, besides the places that rules fill; nil means those
	// of DefaultCredentials.
	Credentials []string

	// Keeper keeps sessions, failed logins and which one-time codes were used
	// over a restart; nil keeps them in memory only.
	Keeper Keeper
	// Fleet is whom the keeper is shared with; nil: nobody else.
	Fleet Fleet
	// Browser makes the logins of macros with a browser, and does what the
	// action recover_in_browser wants. nil: a rule with one is an error of New.
	Browser Browser
	// Exec runs the programs of macros, Ask asks a person what their prompts
	// say: see macro.Env. nil: steps that need them fail. Several goroutines
	// may call them.
	Exec func(ctx context.Context, command []string) (string, error)
	Ask  func(ctx context.Context, q macro.Question) (string, error)
	// Wait returns after d, or with the context's error, by the clock that Now
	// reads. nil waits by the system's.
	Wait func(ctx context.Context, d time.Duration) error
	// Send carries the engine's own requests (macros) to the origin, past
	// the rules. It may be called from several goroutines.
	Send flow.Handler
	// Now and IDs serve the engine's own flows; nil Now is time.Now.
	Now func() time.Time
	IDs *flow.IDs
	// Warn is told what a person should hear of at once (a lockout, a rule
	// whose logins do not help). nil drops it. Any goroutine may call it.
	Warn func(string)
	// Changed hears of each change of a session's state, in their order for one
	// session. It must be quick and may not call the engine: a lock is held.
	// nil: nobody listens.
	Changed func(Change)
}

// Engine keeps identities logged in, as one configuration says. [Engine.Next]
// makes that of another one. Any goroutine may call its methods.
type Engine struct {
	*core // what all configurations have in common

	config Config
	limits Limits
	macros map[string]*macro.Macro // by name and by ID

	since func(time.Time) time.Duration // by config.Now

	credentials []string            // names of fields; never changes
	tokens      map[string]struct{} // names of those that macros and rules take; never changes

	identities map[string]*pool // never changes
	ruling     atomic.Pointer[ruling]

	sessions map[sessionKey]*session // guarded by mu
	globals  map[string]string       // variables of all identities; likewise

	scripts *script.Runner
	runners runners
}

// core is what outlasts a configuration.
type core struct {
	newest atomic.Pointer[Engine]

	sequence atomic.Uint64
	counts   counters

	mu      sync.Mutex // guards what follows, and the maps of engines
	lives   map[lifeKey]*life
	kin     map[lockKey]*kin
	scripts map[script.Limits]*script.Runner

	versions atomic.Uint64 // the last of a row
	away     atomic.Bool   // the keeper that the fleet shares cannot be asked

	guard guard
	codes codes

	memory, disk budget

	ctx    context.Context
	cancel context.CancelFunc
	tasks  tasks
}

type sessionKey struct {
	identity *identity
	recovery string
}

// lifeKey names what sessions of several configurations have in common.
type lifeKey struct {
	persona  *persona
	recovery string
}

// New makes an engine. It fails when a rule names a macro that does not exist.
func New(c Config) (*Engine, error) {
	e, err := newEngine(new(core), c, nil)
	if err != nil {
		return nil, err
	}
	e.kin, e.lives = make(map[lockKey]*kin), make(map[lifeKey]*life)
	e.guard = guard{policy: c.Lockout.withDefaults(), keeper: c.Keeper, now: e.config.Now}
	e.codes.keeper = c.Keeper
	e.memory.limit.Store(e.limits.Memory)
	e.disk.limit.Store(e.limits.Disk)
	for _, id := range c.Identities {
		e.identities[id.Name] = newPool(e, id, nil)
	}
	e.standIn(nil)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if err := e.restoreAll(); err != nil {
		e.cancel()
		return nil, err
	}
	e.newest.Store(e)
	if e.config.Fleet != nil {
		e.spawn(e.watch)
	}
	return e, nil
}

// newEngine is an engine that has no identities yet. Macros that mean what they
// meant to the engine before are its.
func newEngine(shared *core, c Config, before *Engine) (*Engine, error) {
	e := &Engine{
		core:       shared,
		config:     c,
		limits:     c.Limits.withDefaults(),
		macros:     make(map[string]*macro.Macro),
		identities: make(map[string]*pool),
		sessions:   make(map[sessionKey]*session),
		globals:    maps.Clone(c.Variables),
	}
	if e.credentials = c.Credentials; e.credentials == nil {
		e.credentials = DefaultCredentials()
	}
	e.since = func(t time.Time) time.Duration { return e.now().Sub(t) }
	if e.config.Now == nil {
		e.config.Now, e.since = time.Now, time.Since // which reads one clock, not two
	}
	if e.config.Send == nil {
		return nil, errors.New("session: Config.Send is needed")
	}
	if e.config.Rules == nil {
		e.config.Rules = new(rule.Set)
	}
	e.config.Macros = slices.Clone(c.Macros)
	for i, m := range e.config.Macros {
		if before != nil {
			m = before.sameMacro(m)
			e.config.Macros[i] = m
		}
		e.macros[m.Name] = m
		if m.ID != "" {
			e.macros[m.ID] = m
		}
	}
	ruling, err := e.rulingOf(e.config.Rules)
	if err != nil {
		return nil, err
	}
	e.ruling.Store(ruling)
	e.tokens = tokenNames(e.config.Macros, e.config.Rules.Rules())
	e.scripts = e.scriptRunner(e.limits.Script)
	return e, nil
}

// standIn has somebody speak where nobody is named: the first one listed.
func (e *Engine) standIn(before *pool) {
	if e.identities[""] != nil {
		return
	}
	if ids := e.config.Identities; len(ids) > 0 {
		e.identities[""] = e.identities[ids[0].Name]
		return
	}
	e.identities[""] = newPool(e, Identity{}, before)
}

// scriptRunner is the one with these limits.
func (c *core) scriptRunner(l script.Limits) *script.Runner {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scripts == nil {
		c.scripts = make(map[script.Limits]*script.Runner)
	}
	if c.scripts[l] == nil {
		c.scripts[l] = script.NewRunner(l)
	}
	return c.scripts[l]
}

// Close ends recoveries that are running and waits for their goroutines. What
// is to be kept is kept by then, as far as it can be.
func (e *Engine) Close() {
	e.tasks.close()
	e.cancel()
	e.mu.Lock()
	for _, l := range e.lives {
		l.ahead.stop()
	}
	runners := slices.Collect(maps.Values(e.core.scripts))
	e.mu.Unlock()
	for _, r := range runners {
		r.Close()
	}
	e.tasks.wait()
	e.newest.Load().settleAll()
}

// spawn runs fn in a goroutine that Close waits for; false after Close.
func (e *Engine) spawn(fn func()) bool { return e.tasks.start(fn) }

func (e *Engine) now() time.Time { return e.config.Now() }

// next draws a sequence number.
func (e *Engine) next() uint64 { return e.sequence.Add(1) }

func (e *Engine) warn(format string, args ...any) {
	if e.config.Warn != nil {
		e.config.Warn(fmt.Sprintf(format, args...))
	}
}

// Stage is the engine's place in the pipeline: see the package doc.
func (e *Engine) Stage(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		if f.Tool == flow.ToolMacro {
			return next(ctx, f)
		}
		var buf [8]*rule.Rule
		rules := e.Rules().Match(f, buf[:0])
		if len(rules) == 0 {
			return e.unruled(ctx, f, next)
		}
		if f.Identity == Anonymous {
			e.strip(f, rules)
			return next(ctx, f)
		}
		act := untilStop(rules)
		x, err := e.begin(ctx, f, act, next)
		if err != nil {
			return err
		}
		if len(act) < len(rules) {
			x.behind = append([]*rule.Rule(nil), rules[len(act):]...) // a clone would be on the heap for every request
		}
		err = x.run(ctx)
		x.identity.settle()
		if f.Upgraded != nil {
			x.identity.exit(f) // an open WebSocket is no request under way
		}
		f.RuleMemory = x
		return err
	}
}

// poolOf finds who a flow speaks for.
func (e *Engine) poolOf(name string) (*pool, *flow.Error) {
	if p, ok := e.identities[name]; ok {
		return p, nil
	}
	return nil, e.unknownIdentity(name)
}

func (e *Engine) unknownIdentity(name string) *flow.Error {
	known := []string{Anonymous}
	for _, id := range e.config.Identities {
		known = append(known, id.Name)
	}
	return &flow.Error{Status: 400, Reason: flow.ReasonIdentity, Detail: fmt.Sprintf("there is no identity %q", shown(name)),
		Next: "name one of " + strings.Join(known, ", ") + " by " + DirectiveIdentity + " or the proxy user name, or name nobody"}
}

// sessionOf finds or makes the session of an identity under a rule's recovery.
func (e *Engine) sessionOf(id *identity, r *rule.Rule) *session {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := sessionKey{id, e.recoveryOf(r)}
	if s, ok := e.sessions[key]; ok {
		return s
	}
	s := &session{engine: e, identity: id, key: lockKey{id.name, key.recovery}, name: key.recovery, byPerson: r.ByPerson()}
	for _, other := range e.Rules().Rules() {
		if _, at := other.CheckOf(); at >= 0 && e.recoveryOf(other) == key.recovery {
			s.offers = true
		}
	}
	for _, name := range r.Recovery {
		s.recovery = append(s.recovery, e.macros[name])
	}
	s.live()
	e.sessions[key] = s
	return s
}

// live finds or makes what the session has in common with that of the
// configuration before. The engine's mu is held.
func (s *session) live() {
	e, key := s.engine, lifeKey{s.identity.persona, s.name}
	s.life = e.lives[key]
	had := s.life != nil
	if !had {
		s.life = &life{kin: e.kin[s.key]}
		if s.kin == nil {
			s.kin = new(kin)
			e.kin[s.key] = s.kin
		}
		s.ahead.ends = make(map[string]ending)
		e.lives[key] = s.life
	}
	if newest := e.newest.Load(); !had || newest == e { // else it is still the other's: see Next
		s.belong()
	}
	if !had {
		s.restore()
	}
}

// tasks counts goroutines and refuses new ones once closed.
type tasks struct {
	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

func (t *tasks) start(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.group.Go(fn)
	return true
}

func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
}

func (t *tasks) wait() { t.group.Wait() }
