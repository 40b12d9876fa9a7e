package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/script"
)

// maxRuns is how many runs of one action's macro are under way at a time for
// one identity. Other requests wait for their turn, up to Limits.Wait.
const maxRuns = 8

// maxPrepared is how often the macros of a request run again before it is sent
// because a session was recovered meanwhile.
const maxPrepared = 5

// place names an action of a rule, for one identity.
type place struct {
	identity *identity
	rule     *rule.Rule
	action   int
}

// runner runs the macro of one action.
type runner struct {
	slots chan struct{} // one for each run under way
	// turn is held by whoever looks at shared, and runs the macro anew.
	turn   chan struct{}
	shared *macroRun // of an action that lets several requests have one run
}

// macroRun is what one run of a macro brought. Only left changes, by the holder
// of the turn.
type macroRun struct {
	offers *rule.Offers
	values map[string]string
	births uint64 // of the identity's sessions, when it began
	at     time.Time
	left   int // requests that it still serves
}

// runners are the engine's, by place. There are as many as actions times
// identities.
type runners struct {
	mu sync.Mutex
	at map[place]*runner
}

func (r *runners) of(p place) *runner {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = make(map[place]*runner)
	}
	one := r.at[p]
	if one == nil {
		one = &runner{slots: make(chan struct{}, maxRuns), turn: make(chan struct{}, 1)}
		r.at[p] = one
	}
	return one
}

// equip does what has to be done before the request is sent, stamps it and
// edits it. A session that is recovered between a macro's run and the stamp has
// taken the macro's values with it, so all begins anew.
func (x *exchange) equip(ctx context.Context) error {
	if x.acting == nil {
		x.stampAndInject(ctx)
		return x.scriptsFailed()
	}
	for tries := 1; ; tries++ {
		births := x.identity.births.Load()
		if err := x.perform(ctx); err != nil {
			return err
		}
		x.stampAndInject(ctx)
		if tries >= maxPrepared || len(x.acting.runs) == 0 || !x.outdated(births) {
			return x.scriptsFailed()
		}
		x.note(x.rules[0], flow.ActionWait, "a session was recovered meanwhile: the actions begin anew")
		x.flow.Request = x.start.Clone()
		if err := x.prepare(ctx); err != nil {
			return err
		}
	}
}

// outdated reports whether a session of the identity is another than it was,
// or about to be.
func (x *exchange) outdated(births uint64) bool {
	if x.identity.births.Load() != births {
		return true
	}
	for i, s := range x.sessions {
		if !s.recovers() || x.rules[i].OnFailure == rule.FailPass {
			continue
		}
		if _, dead := s.knownDead(); dead {
			return true
		}
	}
	return false
}

// perform does the part of the actions that takes time: macros that run before
// the request is sent.
func (x *exchange) perform(ctx context.Context) error {
	*x.acting = acting{runs: x.acting.runs[:0], rule: len(x.rules)}
	for i, r := range x.rules {
		for j := range r.Actions {
			if err := x.performOne(ctx, i, j); err != nil {
				return err
			}
			if !x.acting.is(i, j) {
				return nil
			}
		}
	}
	return nil
}

func (x *exchange) performOne(ctx context.Context, i, j int) error {
	switch a := &x.rules[i].Actions[j]; {
	case a.RunMacro != nil:
		return x.runMacro(ctx, i, j)
	case a.CheckSession != nil:
		return x.checkSession(ctx, i, j)
	case a.RecoverInBrowser != nil:
		return x.recoverInBrowser(ctx, i, j)
	}
	return nil
}

// stopAfter ends the actions behind the one at a place.
func (x *exchange) stopAfter(i, j int) { x.acting.rule, x.acting.action = i, j+1 }

// runMacro runs the macro of an action, or takes what the last run brought.
func (x *exchange) runMacro(ctx context.Context, i, j int) error {
	r, a := x.rules[i], x.rules[i].Actions[j].RunMacro
	for {
		run, fresh, err := x.engine.runners.of(place{x.identity, r, j}).get(ctx, x, i, a)
		switch {
		case err == nil && fresh:
			x.note(r, flow.ActionRun, "%s: macro %s ran", rule.ActionRunMacro, a.Macro)
		case err == nil:
			x.note(r, flow.ActionRun, "%s: the last run of macro %s serves this request too", rule.ActionRunMacro, a.Macro)
		default:
			again, err := x.deadRun(ctx, i, err)
			if err != nil {
				return err
			}
			if again {
				continue
			}
			return nil
		}
		x.acting.runs = append(x.acting.runs, performed{i, j, run})
		if len(run.values) > 0 {
			if x.acting.values == nil {
				x.acting.values = make(map[string]string)
			}
			maps.Copy(x.acting.values, run.values)
		}
		return nil
	}
}

// get returns a run for one request: a new one, or one that is shared.
func (q *runner) get(ctx context.Context, x *exchange, i int, a *rule.RunMacro) (run *macroRun, fresh bool, err error) {
	unlock, err := q.lock(ctx, a.Shared(), x.engine.limits.Wait)
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	now := x.engine.now()
	if last := q.shared; a.Shared() && last != nil && last.births == x.identity.births.Load() &&
		(a.Interval == 0 || now.Sub(last.at) < a.Interval) && (a.Every == 0 || last.left > 0) {
		last.left--
		return last, false, nil
	}
	births := x.identity.births.Load()
	steps, values, err := x.runSteps(ctx, i, a.Macro, nil)
	if err != nil {
		return nil, true, err
	}
	run = &macroRun{values: values, births: births, at: now, left: a.Every - 1}
	if !a.Params.None && len(steps) > 0 {
		final := steps[len(steps)-1]
		run.offers = rule.OffersOf(final.Flow.Origin.URL(final.Flow.Request.Target()), final.Response, final.Body)
	}
	if a.Shared() {
		q.shared = run
	}
	return run, true, nil
}

// lock waits for the turn, or for one of the slots where runs are not shared.
func (q *runner) lock(ctx context.Context, shared bool, wait time.Duration) (unlock func(), err error) {
	lock := q.slots
	if shared {
		lock = q.turn
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-limit.C:
		return nil, fmt.Errorf("its turn did not come within %s", wait)
	}
}

// runError is a run of a macro that brought nothing.
type runError struct {
	macro string
	dead  int // index of the rule that calls the session dead by its answer; -1
	stamp uint64
	err   error
}

func (e *runError) Error() string { return fmt.Sprintf("macro %q: %v", e.macro, e.err) }
func (e *runError) Unwrap() error { return e.err }

var errDeadAnswer = errors.New("its answer is a dead session's")

// runSteps runs a macro for a request and judges its answers by the rules that
// cover the request: an answer of a dead session brings nothing. Only a run
// whose steps are scripts may have no answers.
func (x *exchange) runSteps(ctx context.Context, i int, name string, first func(*macro.Built)) ([]macro.StepResult, map[string]string, error) {
	e, s := x.engine, x.sessions[i]
	m := e.macros[name]
	stamps := make([]uint64, len(x.sessions))
	for k, s := range x.sessions {
		stamps[k] = s.generation.Load()
	}
	ctx, cancel := context.WithTimeout(ctx, e.limits.Wait)
	defer cancel()
	env := s.env()
	env.Lookup, env.First = x.lookup, first
	result, err := m.Run(ctx, env)
	var steps []macro.StepResult
	values := make(map[string]string)
	var step *macro.StepError
	switch {
	case err == nil:
		steps = result.Steps
	case errors.As(err, &step):
		steps = step.Steps
		s.keepSpent(m, step.Partial)
	}
	for n := range steps {
		x.takeFrom(i, &steps[n], values)
	}
	if err == nil {
		maps.Copy(values, result.Values)
		s.keepSpent(m, values)
	}
	if n := len(steps); n > 0 {
		if k := x.judgeStep(&steps[n-1]); k >= 0 {
			return nil, nil, &runError{macro: name, dead: k, stamp: stamps[k], err: errDeadAnswer}
		}
	}
	if err != nil {
		return nil, nil, &runError{macro: name, dead: -1, err: redacted(err)}
	}
	return steps, values, nil
}

// takeFrom adds what the rule's own sources find in a step's answer.
func (x *exchange) takeFrom(i int, step *macro.StepResult, values map[string]string) {
	for _, u := range x.rules[i].Updates {
		if u.Source == nil || u.Source.FromRequest() {
			continue
		}
		if v, ok := x.sessions[i].takesStep(u.Source, step); ok {
			values[u.Token] = v
		}
	}
}

// judgeStep is the first rule with a recovery that calls a step's answer dead,
// or -1.
func (x *exchange) judgeStep(step *macro.StepResult) int {
	for k, r := range x.rules {
		if r.Dead != nil && x.sessions[k].recovers() && matches(r.Dead, step) {
			return k
		}
	}
	return -1
}

func matches(q *httpql.Query, step *macro.StepResult) bool {
	rec := &flow.Record{Flow: step.Flow, ResponseBody: step.Body, ResponsePresence: httpql.Known}
	if step.Cut {
		rec.ResponsePresence = httpql.Pending
	}
	return q.Match(rec) == httpql.True
}

// deadRun deals with a run that brought nothing. Where it met a dead session,
// that is recovered, and it is to be run again.
func (x *exchange) deadRun(ctx context.Context, i int, err error) (again bool, _ error) {
	var run *runError
	if errors.As(err, &run) && run.dead >= 0 {
		k := run.dead
		s := x.sessions[k]
		if x.own < maxOwnRecoveries && x.reruns < maxResends {
			x.reruns++
			x.note(x.rules[k], flow.ActionDead, "%v (generation %d)", run, run.stamp)
			s.noteDead(run.stamp)
			return x.recoverFor(ctx, k, run.stamp)
		}
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return false, x.actionFailed(i, err)
}

// recoverFor gets a newer session than the stale one before the request is
// sent. False without an error: it goes on without.
func (x *exchange) recoverFor(ctx context.Context, k int, stale uint64) (ok bool, _ error) {
	r, s := x.rules[k], x.sessions[k]
	x.flow.Recovered = true
	failed := x.renew(ctx, r, s, stale)
	switch {
	case failed == nil:
		return true, nil
	case r.OnFailure == rule.FailPass:
		x.note(r, flow.ActionNote, "the request goes on without a session (on_failure: pass): %s", failed.Detail)
		return false, nil
	}
	x.note(r, flow.ActionRefuse, "%s", failed.Detail)
	return false, failed
}

// actionFailed closes, unless the rule says otherwise.
func (x *exchange) actionFailed(i int, err error) error {
	r := x.rules[i]
	if r.OnFailure == rule.FailPass {
		x.note(r, flow.ActionNote, "the request goes on without what the action would bring (on_failure: pass): %v", err)
		return nil
	}
	x.note(r, flow.ActionRefuse, "%v", err)
	failed := &flow.Error{Reason: flow.ReasonAction, Detail: fmt.Sprintf("an action of rule %q failed: %v", r.Name, err),
		Next: "see the trace of the macro's requests, or let the rule pass requests without it: on_failure: pass"}
	var scripted *script.RunError
	if errors.As(err, &scripted) {
		failed.Reason, failed.Detail = flow.ReasonScript, fmt.Sprintf("a script of rule %q failed: %v", r.Name, err)
		failed.Next = "mend the script at that line, or let the rule pass requests without it: on_failure: pass"
	}
	var told *flow.Error
	if errors.As(err, &told) { // the origin cannot be reached, and the like
		failed.Status, failed.Reason, failed.Next = told.Status, told.Reason, told.Next
	}
	return failed
}

// offered puts what a run offers into the request's parameters of the same
// name, and the jar's cookies.
func (e *editor) offered(offers *rule.Offers, values map[string]string, params *rule.Pick, tolerate bool, cookies *rule.Pick) {
	x := e.x
	if !params.None {
		place := placeOf(x.flow)
		var names []string
		if offers != nil { // a macro of scripts alone has no answer
			names = offers.Names()
		}
		for name := range values {
			names = append(names, name)
		}
		slices.Sort(names)
		set, strangers := 0, []string(nil)
		for _, name := range slices.Compact(names) {
			if !params.Has(name) {
				continue
			}
			p := rule.NewParam(name)
			var buf [5]*rule.Target
			targets := p.Present(&x.message, buf[:0])
			if len(targets) == 0 {
				continue
			}
			value, ok := values[name] // what the macro extracts by name is meant for any URL
			if !ok && offers != nil {
				value, ok = offers.Find(name, place, tolerate)
			}
			if !ok {
				strangers = append(strangers, name)
				continue
			}
			set++
			for _, t := range targets {
				e.put(t, value, rule.IfAbsentSkip)
			}
		}
		switch {
		case len(strangers) > 0:
			e.say(flow.ActionKeep, "the macro's answer offers %s for other URLs only (tolerate_url_mismatch)", strings.Join(strangers, ", "))
		case set == 0:
			e.say(flow.ActionKeep, "the macro's answer offers no parameter that the request has")
		}
	}
	e.cookies("", cookies)
}
