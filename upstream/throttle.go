package upstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-proxy/holdfast/flow"
)

// Bounds on what waits for its turn.
const (
	ThrottleWait  = time.Minute // how long one request waits at most; then it is refused
	ThrottleQueue = 4096        // requests that wait for a place with one origin; more are refused
	maxGates      = 4096        // origins that are counted apart; the rest of a limit's origins count together
)

// Limit says how much is sent to an origin. Each origin is counted for itself,
// the tools of a limit together.
type Limit struct {
	Hosts flow.HostPatterns // none: every origin
	// Tools that it is for; none: every tool. Requests of flow.ToolMacro wait
	// only where they are named; else they go at once and count, so that a
	// login is not held behind the queue of a scanner.
	Tools      []string
	Rate       float64 // requests per second; 0: any
	Burst      int     // requests that may go at once after a pause; 1 when zero
	Concurrent int     // requests under way, their answers' bodies included; 0: any
}

func (l *Limit) covers(f *flow.Flow) bool {
	return covers(l.Hosts, f.Origin) && (len(l.Tools) == 0 || l.names(f.Tool))
}

func (l *Limit) names(tool string) bool {
	return slices.ContainsFunc(l.Tools, func(t string) bool { return strings.EqualFold(t, tool) })
}

// A Throttle holds requests back. Any goroutine may use it; it starts none.
type Throttle struct {
	limits []Limit

	mu    sync.Mutex
	gates map[gateKey]*gate
	held  map[*flow.Flow]*gate // flows that have a place, until they end
}

type gateKey struct {
	limit  int
	origin flow.Origin
}

// NewThrottle makes a throttle of limits, of which the first that covers a
// request is the one that counts.
func NewThrottle(limits []Limit) *Throttle {
	return &Throttle{limits: limits, gates: map[gateKey]*gate{}, held: map[*flow.Flow]*gate{}}
}

// Stage is a flow.Stage that has requests wait for their turn. It stands right
// before what sends them, so that a request that is sent again counts again.
func (t *Throttle) Stage(next flow.Handler) flow.Handler {
	if len(t.limits) == 0 {
		return next
	}
	return func(ctx context.Context, f *flow.Flow) error {
		if err := t.wait(ctx, f); err != nil {
			return err
		}
		err := next(ctx, f)
		if f.Upgraded != nil { // it may last for hours, and asks nothing more
			t.release(f)
		}
		return err
	}
}

// wait returns when it is the flow's turn.
func (t *Throttle) wait(ctx context.Context, f *flow.Flow) error {
	i := slices.IndexFunc(t.limits, func(l Limit) bool { return l.covers(f) })
	if i < 0 {
		return nil
	}
	g := t.gate(i, f.Origin)
	if f.Tool == flow.ToolMacro && !g.limit.names(f.Tool) {
		if g.rate != nil {
			g.rate.Reserve() // those behind it wait for longer
		}
		return nil
	}
	began := time.Now()
	err := t.pass(ctx, f, g, began)
	if waited := time.Since(began); waited >= time.Millisecond && err == nil {
		f.Trace.Add(flow.Event{At: time.Since(f.Start), Actor: "throttle", Action: flow.ActionWait,
			Detail: fmt.Sprintf("%v for its turn with %s", waited.Round(time.Millisecond), address(f.Origin))})
	}
	return err
}

func (t *Throttle) pass(ctx context.Context, f *flow.Flow, g *gate, began time.Time) error {
	if g.limit.Concurrent > 0 && f.Tool != flow.ToolMacro && !t.has(f) {
		if err := g.enter(ctx, f.Origin); err != nil {
			return err
		}
		t.hold(f, g)
	}
	if g.rate == nil {
		return nil
	}
	now := time.Now()
	turn := g.rate.ReserveN(now, 1)
	delay := turn.DelayFrom(now)
	if now.Add(delay).Sub(began) > ThrottleWait {
		turn.CancelAt(now)
		t.release(f)
		return throttled(f.Origin, fmt.Sprintf("its turn would come after %v, later than the %v that a request waits", delay.Round(time.Second), ThrottleWait))
	}
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		turn.Cancel()
		t.release(f)
		return context.Cause(ctx)
	}
}

func throttled(o flow.Origin, why string) error {
	return &flow.Error{Status: 503, Reason: flow.ReasonThrottled,
		Detail: fmt.Sprintf("The request to %s was not sent: %s.", address(o), why),
		Next:   "Have the tool send less at once, or raise the limit under throttle: in the configuration."}
}

// gate finds or makes the count of an origin.
func (t *Throttle) gate(limit int, o flow.Origin) *gate {
	k := gateKey{limit: limit, origin: o}
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.gates[k]; g != nil {
		return g
	}
	if len(t.gates) >= maxGates {
		for old, g := range t.gates {
			if g.atRest() {
				delete(t.gates, old)
			}
		}
	}
	if len(t.gates) >= maxGates {
		k.origin = flow.Origin{}
		if g := t.gates[k]; g != nil {
			return g
		}
	}
	g := &gate{limit: &t.limits[limit]}
	if g.limit.Rate > 0 {
		g.rate = rate.NewLimiter(rate.Limit(g.limit.Rate), max(1, g.limit.Burst))
	}
	t.gates[k] = g
	return g
}

func (t *Throttle) has(f *flow.Flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held[f] != nil
}

// hold has the flow keep its place until it ends.
func (t *Throttle) hold(f *flow.Flow, g *gate) {
	t.mu.Lock()
	t.held[f] = g
	t.mu.Unlock()
	f.OnEnd(t.release)
}

// release gives back the flow's place, if it has one.
func (t *Throttle) release(f *flow.Flow) {
	t.mu.Lock()
	g := t.held[f]
	delete(t.held, f)
	t.mu.Unlock()
	if g != nil {
		g.leave()
	}
}

// A gate counts what is sent to one origin under one limit.
type gate struct {
	limit *Limit
	rate  *rate.Limiter // nil: any

	mu      sync.Mutex
	inside  int
	waiting []chan struct{} // the one who came first is first
}

// atRest tells whether nothing is lost when the gate is made anew. A request
// that has found the gate and is not inside yet may then go beside those of
// the new one, once.
func (g *gate) atRest() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside == 0 && len(g.waiting) == 0 && (g.rate == nil || g.rate.Tokens() >= float64(g.rate.Burst()))
}

// enter waits for a place.
func (g *gate) enter(ctx context.Context, o flow.Origin) error {
	g.mu.Lock()
	if g.inside < g.limit.Concurrent {
		g.inside++
		g.mu.Unlock()
		return nil
	}
	if len(g.waiting) >= ThrottleQueue {
		g.mu.Unlock()
		return throttled(o, fmt.Sprintf("%d others wait for their turn already", ThrottleQueue))
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	timer := time.NewTimer(ThrottleWait)
	defer timer.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-timer.C:
		err = throttled(o, fmt.Sprintf("%d others were under way for %v", g.limit.Concurrent, ThrottleWait))
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	g.mu.Lock()
	i := slices.Index(g.waiting, turn)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 { // its turn came at the same moment
		g.leave()
	}
	return err
}

// leave gives the place to the next.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.inside--
		return
	}
	close(g.waiting[0])
	g.waiting = slices.Delete(g.waiting, 0, 1)
}
