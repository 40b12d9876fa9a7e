package session

import (
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
)

// Anonymous is the identity that is built in: rules put nothing into its
// requests, and where one is in scope credentials are taken out of them.
const Anonymous = flow.Anonymous

// Identity is someone we can be logged in as.
type Identity struct {
	Name      string
	Variables map[string]string // credentials and the like; they win over global ones
	Cookies   []jar.Cookie      // what its jar begins with
	Pool      Pool              // how many sessions it has at a time
	TOTP      *macro.TOTP       // its one-time codes; nil: it has none
}

// identity is an Identity while it is in use: with its tokens and cookies. Of an
// identity with several sessions at a time it is one of them.
type identity struct {
	name   string
	pool   *pool
	number int    // in the pool, from 0
	label  string // for people: which of the pool; "" where it is the only one
	// slot has a place for the one request that may be under way, and persona.inside
	// is whose it is; nil where any number may.
	slot chan struct{}

	variables atomic.Pointer[map[string]string] // own over global; replaced whole by Engine.SetVariable
	totp      *macro.TOTP
	*persona
}

// persona is what an identity has in common with those that mean the same under
// the configurations before and after.
type persona struct {
	inside atomic.Pointer[flow.Flow]
	jar    *jar.Jar
	ahead  atomic.Int64 // by how many nanoseconds its origin's clock is ahead of ours
	// births counts the sessions that recoveries brought. It rises behind
	// their tokens and cookies.
	births atomic.Uint64

	// tokens is replaced whole, so that a request reads a consistent set
	// without a lock. Writers hold mu.
	mu     sync.Mutex
	tokens atomic.Pointer[map[string]token]
	// seen has the hashes of the values that each token ever had, up to maxSeen
	// of each: values that are over are not kept. Two of 64 bits are hardly
	// ever one by chance, and nobody outside knows the seed.
	seen map[string]map[uint64]struct{}
	seed maphash.Seed

	kept keeping

	turns sync.Map // *macro.Macro → chan struct{}: whoever runs it holds the one place
}

// turnOf is a channel with one place, for whoever runs the macro.
func (n *identity) turnOf(m *macro.Macro) chan struct{} {
	turn, _ := n.turns.LoadOrStore(m, make(chan struct{}, 1))
	return turn.(chan struct{})
}

// maxSeen bounds the values that are remembered of each token, to tell a
// tester's own value from one of ours.
const maxSeen = 4096

// token is a variable that came from a response.
type token struct {
	value string
	// order is the sequence number of the request whose answer brought the
	// value; a value of a lower order never replaces one of a higher.
	order uint64
	// set is a sequence number drawn when the value was there for everybody:
	// a request stamped later carries it, one stamped before may not.
	set uint64
	// gone says that the value died with its session. What is left keeps
	// older answers from bringing it back.
	gone bool
}

// newJar is a jar as browsers have it: they count plain http to the loopback as
// secure (tried with Chromium 156; RFC 6265bis §5.8.3 leaves it to them).
func newJar() *jar.Jar { return jar.New(jar.Options{TrustLoopback: true}) }

func newIdentity(id Identity, global map[string]string) *identity {
	n := &identity{name: id.Name, totp: id.TOTP, persona: newPersona()}
	n.define(global, id.Variables)
	return n
}

func newPersona() *persona {
	p := &persona{jar: newJar(), seed: maphash.MakeSeed()}
	p.tokens.Store(&map[string]token{})
	return p
}

// define makes the identity's variables those of its own over the global ones.
func (n *identity) define(global, own map[string]string) {
	all := make(map[string]string, len(global)+len(own))
	maps.Copy(all, global)
	maps.Copy(all, own)
	n.variables.Store(&all)
}

// vars are the variables. Nobody changes the map.
func (n *identity) vars() map[string]string { return *n.variables.Load() }

// lookup is the value of a variable: a token first, since it is the newer word
// on a name that the configuration only gives a starting value.
func (n *identity) lookup(name string) (string, bool) {
	if t, ok := (*n.tokens.Load())[name]; ok && !t.gone {
		return t.value, true
	}
	v, ok := n.vars()[name]
	return v, ok
}

// learn takes values that the answer to the request with the given order
// brought, and returns the names of those that are new: a value that is older
// than what is known is left out. draw draws sequence numbers.
func (n *identity) learn(values map[string]string, order uint64, draw func() uint64) (taken []string) {
	if len(values) == 0 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	next := maps.Clone(*n.tokens.Load())
	for name, value := range values {
		had, ok := next[name]
		switch {
		case ok && had.order > order:
			continue
		case ok && had.value == value && !had.gone:
			had.order = order // the same again, and newer
			next[name] = had
			continue
		}
		next[name] = token{value: value, order: order, set: unset}
		taken = append(taken, name)
	}
	n.publish(next, draw, false)
	if len(taken) > 0 {
		n.touch()
	}
	return taken
}

// renew takes what a recovery brought and drops the tokens that died with the
// session before, in one step. It returns a sequence number: requests stamped
// later carry the new values, and answers to those stamped before change none
// of them.
func (n *identity) renew(values map[string]string, stale []string, draw func() uint64) (born uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := maps.Clone(*n.tokens.Load())
	for _, name := range stale {
		next[name] = token{gone: true, set: unset}
	}
	for name, value := range values {
		next[name] = token{value: value, set: unset}
	}
	born = n.publish(next, draw, true)
	n.births.Add(1)
	n.touch()
	return born
}

// unset stands for a sequence number that is about to be drawn: nothing is
// newer.
const unset = math.MaxUint64

// publish makes the tokens those that requests read, and only then draws the
// number that says since when. In between every request looks as if it had not
// carried them, which costs at most one more sending. mu is held.
func (n *identity) publish(next map[string]token, draw func() uint64, ordered bool) (set uint64) {
	n.tokens.Store(&next)
	set = draw()
	final := maps.Clone(next)
	for name, t := range final {
		if t.set != unset {
			continue
		}
		if t.set = set; ordered {
			t.order = set
		}
		final[name] = t
		if !t.gone {
			n.remember(name, t.value)
		}
	}
	n.tokens.Store(&final)
	return set
}

// changedSince reports whether one of the tokens was set after the sequence
// number: a request stamped with it did not carry the present value.
func (n *identity) changedSince(names []string, sequence uint64) bool {
	return slices.ContainsFunc(names, func(name string) bool { return n.isSince(name, sequence) })
}

// isSince is changedSince for one token.
func (n *identity) isSince(name string, sequence uint64) bool {
	return (*n.tokens.Load())[name].set > sequence
}

// remember notes that a token had a value. mu is held.
func (n *identity) remember(name, value string) {
	values := n.seen[name]
	if values == nil || len(values) >= maxSeen {
		values = make(map[uint64]struct{})
		if n.seen == nil {
			n.seen = make(map[string]map[uint64]struct{})
		}
		n.seen[name] = values
	}
	values[maphash.String(n.seed, value)] = struct{}{}
}

// knows reports whether the token ever had the value.
func (n *identity) knows(name, value string) bool {
	if v, ok := n.vars()[name]; ok && v == value {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.seen[name][maphash.String(n.seed, value)]
	return ok
}
