package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/wire"
)

// A Pool says how many sessions an identity has at a time, and who may use
// them. The zero value is one session for everybody at once.
//
// A connection of a client leases one session with its first request that a
// rule covers, for its life. Over HTTP/2 each stream does, since streams run at
// the same time: the connection's own one where no other stream is on it.
type Pool struct {
	Sessions int // 0 is 1; MaxSessions at most
	// Wait has those for whom no session is free wait for one, up to
	// Limits.Wait. Else they share the one that fewest use.
	Wait bool
	// Exclusive has the requests of a session wait for each other: one is
	// under way at a time, from its tokens to the end of its answer, up to
	// Limits.Wait. A WebSocket is under way until it is open.
	Exclusive bool
}

// MaxSessions is how many sessions a pool can have.
const MaxSessions = 64

// pool is the sessions of one identity. Each member is an identity as far as
// the rest of the package can see, with a jar, tokens and sessions of its own;
// the variables and the lockout's count are the same.
type pool struct {
	engine  *Engine
	members []*identity
	turns   *turns            // at the recoveries of all members
	own     map[string]string // variables, beside the global ones; guarded by the engine's mu
	cookies []jar.Cookie      // that the jars begin with
	leased  bool              // Pool says more than that everybody shares one session
	wait    bool
	*leasing
}

// leasing is who has which member. It goes on under another configuration that
// says the same of the pool.
type leasing struct {
	settings Pool

	mu      sync.Mutex // guards what follows
	leases  []int      // by member: connections, and streams, that have it
	homes   []int      // by member: connections with HTTP/2 that prefer it
	clients map[uint64]*clientLease
	waiting []*waiter // the longest first
}

// clientLease is what a client's connection has.
type clientLease struct {
	member int  // its number
	home   bool // its streams lease for themselves, this one first
}

// waiter is somebody for whom no session is free.
type waiter struct {
	got chan int // the number of the session; has one place
}

// newPool is an identity's. before is that of the same name in the
// configuration before, nil: there was none.
func newPool(e *Engine, id Identity, before *pool) *pool {
	n := min(max(id.Pool.Sessions, 1), MaxSessions)
	settings := Pool{Sessions: n, Wait: id.Pool.Wait, Exclusive: id.Pool.Exclusive}
	p := &pool{engine: e, own: id.Variables, cookies: id.Cookies, wait: id.Pool.Wait, leased: n > 1 || id.Pool.Wait || id.Pool.Exclusive, turns: new(turns)}
	if before != nil {
		p.turns = before.turns
	}
	if before != nil && before.settings == settings {
		p.leasing = before.leasing
	} else {
		p.leasing = &leasing{settings: settings, leases: make([]int, n), homes: make([]int, n)}
	}
	for i := range n {
		m := newIdentity(id, e.globals)
		m.pool, m.number = p, i
		if n > 1 {
			m.label = fmt.Sprintf("session %d of %d", i+1, n)
		}
		if id.Pool.Exclusive {
			m.slot = make(chan struct{}, 1)
		}
		if before == nil || i >= len(before.members) || !m.goesOn(before.members[i]) || !slices.EqualFunc(before.cookies, id.Cookies, sameCookie) {
			m.bring(id.Cookies)
		}
		p.members = append(p.members, m)
	}
	return p
}

// lease gives a flow one of the sessions, for as long as it or its connection
// lasts.
func (p *pool) lease(ctx context.Context, f *flow.Flow) (*identity, *flow.Error) {
	if !p.leased {
		return p.members[0], nil
	}
	m, failed := p.pick(ctx, f)
	if failed != nil {
		return nil, failed
	}
	if m.label != "" {
		p.engine.tell(f, flow.ActionNote, m.label)
	}
	if m.slot == nil {
		return m, nil
	}
	return m, m.enter(ctx, f)
}

// pick finds the session that the connection has, or a free one, or waits.
func (p *pool) pick(ctx context.Context, f *flow.Flow) (*identity, *flow.Error) {
	lasts := f.Client != 0 && f.Connection != nil
	stream := lasts && f.Request.Proto() == wire.HTTP2
	p.mu.Lock()
	has := p.clients[f.Client]
	if lasts && has != nil && !has.home {
		p.mu.Unlock()
		return p.members[has.member], nil
	}
	m := p.free(has)
	if m == nil && p.wait {
		var failed *flow.Error
		if m, failed = p.await(ctx, f); failed != nil { // gives mu back meanwhile
			p.mu.Unlock()
			return nil, failed
		}
	} else {
		if m == nil {
			m = p.fewest()
		}
		p.leases[m.number]++
	}
	p.keep(f, m, lasts, stream)
	p.mu.Unlock()
	return m, nil
}

// keep notes who gives the lease back. mu is held.
func (p *pool) keep(f *flow.Flow, m *identity, lasts, stream bool) {
	client, has := f.Client, p.clients[f.Client]
	if !lasts || stream {
		f.OnEnd(func(*flow.Flow) { p.release(m) })
	}
	if !lasts || stream && has != nil {
		return
	}
	if p.clients == nil {
		p.clients = make(map[uint64]*clientLease)
	}
	p.clients[client] = &clientLease{member: m.number, home: stream}
	if stream {
		p.homes[m.number]++
	}
	context.AfterFunc(f.Connection, func() { p.leave(client) })
}

// free is a session that nobody has, or nil: the one that the connection
// prefers, then one that no other prefers, then the first. mu is held.
func (p *pool) free(has *clientLease) (best *identity) {
	if has != nil && p.leases[has.member] == 0 {
		return p.members[has.member]
	}
	for _, m := range p.members {
		if p.leases[m.number] == 0 && (best == nil || p.homes[m.number] < p.homes[best.number]) {
			best = m
		}
	}
	return best
}

// fewest is the session that fewest have. mu is held.
func (p *pool) fewest() *identity {
	best := p.members[0]
	for _, m := range p.members {
		if p.leases[m.number] < p.leases[best.number] {
			best = m
		}
	}
	return best
}

// await waits for a session that is given back, as the last in the line. mu is
// held before and after, not while it waits. What it returns is leased.
func (p *pool) await(ctx context.Context, f *flow.Flow) (*identity, *flow.Error) {
	e, w := p.engine, &waiter{got: make(chan int, 1)}
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	began := e.now()
	limit := time.NewTimer(e.limits.Wait)
	defer limit.Stop()
	var failed *flow.Error
	var m *identity
	select {
	case number := <-w.got:
		m = p.members[number]
	case <-ctx.Done():
		failed = leftEarly(ctx)
	case <-e.ctx.Done():
		failed = closing()
	case <-limit.C:
		failed = p.busy(fmt.Sprintf("all %d sessions were leased for %s", len(p.members), e.limits.Wait))
	}
	p.mu.Lock()
	p.waiting = slices.DeleteFunc(p.waiting, func(other *waiter) bool { return other == w })
	if failed != nil {
		select {
		case number := <-w.got: // at the last moment
			p.giveBack(number)
		default:
		}
		return nil, failed
	}
	e.tell(f, flow.ActionWait, fmt.Sprintf("for a session: all %d were leased for %s", len(p.members), e.now().Sub(began).Round(time.Millisecond)))
	return m, nil
}

// busy is what a client is told that waited in vain.
func (p *pool) busy(why string) *flow.Error {
	return &flow.Error{Status: 503, Reason: flow.ReasonBusy, Detail: p.members[0].title() + ": " + why,
		Next: "give it more sessions, have when_busy: share, send less at once, or raise limits.wait"}
}

func leftEarly(ctx context.Context) *flow.Error {
	return &flow.Error{Reason: flow.ReasonClosing, Detail: "the client went away while it waited for a session", Cause: ctx.Err()}
}

// release ends a stream's lease, or that of a flow without a connection.
func (p *pool) release(m *identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveBack(m.number)
}

// leave ends what a connection has.
func (p *leasing) leave(client uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	has := p.clients[client]
	if has == nil {
		return
	}
	delete(p.clients, client)
	if has.home {
		p.homes[has.member]--
		return
	}
	p.giveBack(has.member)
}

// giveBack ends one lease. Where others wait, the first of them has it now. mu
// is held.
func (p *leasing) giveBack(number int) {
	if p.leases[number]--; p.leases[number] > 0 || len(p.waiting) == 0 {
		return
	}
	w := p.waiting[0]
	p.waiting = p.waiting[1:]
	p.leases[number]++
	w.got <- number
}

// held is what the connection of a flow has; nil when it has nothing. Where
// there is one session for everybody, it is that.
func (p *pool) held(f *flow.Flow) *identity {
	if len(p.members) == 1 {
		return p.members[0]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if has := p.clients[f.Client]; has != nil && f.Client != 0 {
		return p.members[has.member]
	}
	return nil
}

// enter waits until no other request of an exclusive session is under way, and
// has the flow's end let the next one in.
func (n *identity) enter(ctx context.Context, f *flow.Flow) *flow.Error {
	e := n.pool.engine
	select {
	case n.slot <- struct{}{}:
	default:
		began := e.now()
		limit := time.NewTimer(e.limits.Wait)
		defer limit.Stop()
		select {
		case n.slot <- struct{}{}:
		case <-ctx.Done():
			return leftEarly(ctx)
		case <-e.ctx.Done():
			return closing()
		case <-limit.C:
			return n.pool.busy(fmt.Sprintf("requests before this one were under way for %s, and one at a time is (exclusive)", e.limits.Wait))
		}
		e.tell(f, flow.ActionWait, fmt.Sprintf("for the request before it: %s", e.now().Sub(began).Round(time.Millisecond)))
	}
	f.OnEnd(func(*flow.Flow) { n.exit(f) })
	n.inside.Store(f)
	return nil
}

// exit lets the next request in; the second time for one flow does nothing.
func (n *identity) exit(f *flow.Flow) {
	if n.slot != nil && n.inside.CompareAndSwap(f, nil) {
		<-n.slot
	}
}

// send carries the requests of macros, and has their traces say which session
// of a pool they are for.
func (n *identity) send(ctx context.Context, f *flow.Flow) error {
	e := n.pool.engine
	if n.label != "" {
		e.tell(f, flow.ActionNote, n.label)
	}
	return e.config.Send(ctx, f)
}

// tryEnter is enter for what is no request and does not wait.
func (n *identity) tryEnter() (exit func(), ok bool) {
	if n.slot == nil {
		return func() {}, true
	}
	select {
	case n.slot <- struct{}{}:
		return func() { <-n.slot }, true
	default:
		return nil, false
	}
}
