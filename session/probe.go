package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// inquiry is a macro that is asked about a session before requests are sent,
// and how its word is read and kept: a rule's probe, or its check_session.
type inquiry struct {
	rule  *rule.Rule
	key   any // of the prober: rules that ask the same share what it said
	macro string
	// every and lasts say after how many requests, and how much time, it is
	// asked again; 0: not by that.
	every int
	lasts time.Duration
	// invalid is true of the last answer where the session is dead; nil: the
	// macro itself expects the answers of a live one.
	invalid *httpql.Query
	// distrusts has a session that no login of ours made be asked about at once.
	distrusts bool
	wait      time.Duration // how long a request waits for a word
	label     string        // in front of what the trace says
}

func (e *Engine) probeOf(r *rule.Rule) inquiry {
	p := r.Probe
	return inquiry{rule: r, key: p.Macro, macro: p.Macro, every: p.Every, lasts: p.For, wait: e.limits.Hold}
}

// checkOf is the inquiry of a check_session that asks a macro.
func (e *Engine) checkOf(r *rule.Rule, a *rule.CheckSession) inquiry {
	q := inquiry{rule: r, key: a, macro: a.Macro, every: a.Every, lasts: a.For, invalid: a.Invalid(), distrusts: true,
		wait: e.limits.Wait, label: rule.ActionCheckSession + ": "}
	if q.every == 0 && q.lasts == 0 {
		q.every = 1
	}
	return q
}

// prober is what an inquiry about one session said, until it is to be asked
// again.
type prober struct {
	batch batch

	mu         sync.Mutex
	generation uint64    // that the fields below are about
	requests   int       // since the last word
	at         time.Time // of the last word, or of the generation's first request
	doubt      bool      // the last word was bad: the next session is asked about at once
	spoken     uint64    // generation of the last word
	suspected  time.Time // when it was last asked on suspicion

	shapes shapes
}

func (s *session) proberOf(key any) *prober {
	if p, ok := s.probers.Load(key); ok {
		return p.(*prober)
	}
	p, _ := s.probers.LoadOrStore(key, new(prober))
	return p.(*prober)
}

// due counts a request and reports whether the macro is to be asked before it.
func (p *prober) due(q *inquiry, generation uint64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := false
	if p.generation != generation || p.at.IsZero() { // a login is word enough
		p.generation, p.requests, p.at = generation, 0, now
		first = q.distrusts && generation == 0
	}
	p.requests++
	return first || p.doubt || q.every > 0 && p.requests >= q.every || q.lasts > 0 && now.Sub(p.at) >= q.lasts
}

// heard notes a word about a generation. doubted says whether the word before
// it was a bad one.
func (p *prober) heard(generation uint64, bad bool, now time.Time) (doubted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	doubted = p.doubt
	p.generation, p.requests, p.at, p.doubt = generation, 0, now, bad
	p.spoken = generation
	return doubted
}

// calledDead reports whether the last word was a bad one about the generation. A
// run that began before a login, and ended after it, is about the session before.
func (p *prober) calledDead(generation uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doubt && p.spoken == generation
}

// askSession runs the macro and acts on its word. Only an answer of the origin
// is one: a macro that could not be asked leaves everything as it is.
func (s *session) askSession(q *inquiry, p *prober) (alive bool) {
	e := s.engine
	generation := s.generation.Load()
	e.counts.probes.Add(1)
	ctx, cancel := context.WithTimeout(e.ctx, e.limits.Wait)
	defer cancel()
	bad, err := s.wordOf(ctx, q)
	if err != nil {
		e.warn("rule %q: %smacro %s could not be asked: %v", q.rule.Name, q.label, q.macro, redacted(err))
	}
	doubted := p.heard(generation, bad, e.now())
	switch {
	case err != nil:
	case !bad:
		s.noteAlive(generation)
	case s.recovers() && s.generation.Load() == generation:
		if doubted && generation > 0 && !s.isAlive(generation) {
			s.noteBarren(generation) // a login that brought nothing; where that was one too many, the guard holds the next
		}
		s.noteDead(generation)
	}
	return !bad
}

// wordOf runs the macro once. The error says why there is no word.
func (s *session) wordOf(ctx context.Context, q *inquiry) (bad bool, err error) {
	result, err := s.engine.macros[q.macro].Run(ctx, s.env())
	var step *macro.StepError
	rejected := errors.As(err, &step) && step.Kind == macro.Rejected
	if err != nil && !rejected {
		return false, err
	}
	if q.invalid == nil {
		return rejected, nil
	}
	var answers []macro.StepResult
	if rejected { // its answer was not as the macro wants it, and is one all the same
		answers = step.Steps
	} else {
		answers = result.Steps
	}
	if len(answers) == 0 { // of a script that fetched nothing
		return false, errors.New("it sent no request, so there is no answer to look at")
	}
	return matches(q.invalid, &answers[len(answers)-1]), nil
}

// askFirst asks the macro when it is due, before the request is sent. With a
// bad word the session is recovered first, and the new one asked about at once.
// Requests that come meanwhile wait for the same word. It reports whether the
// session was alive as the request found it.
func (x *exchange) askFirst(ctx context.Context, q *inquiry, s *session) (alive bool, err error) {
	e, r, p := x.engine, q.rule, s.proberOf(q.key)
	for alive = true; p.due(q, s.generation.Load(), e.now()); {
		if _, _, distrusted := s.patience(); distrusted {
			x.note(r, flow.ActionNote, "%smacro %s is not asked: new sessions did not change what it says", q.label, q.macro)
			return alive, nil
		}
		generation := s.generation.Load()
		said, err := x.hear(ctx, q, func(ctx context.Context) (alive, asked bool) {
			return p.batch.share(ctx, e.spawn, func() bool { return s.askSession(q, p) })
		})
		if said || err != nil {
			return alive, err
		}
		if alive = false; !p.calledDead(generation) {
			continue
		}
		x.note(r, flow.ActionDead, "%smacro %s says that the session is dead (generation %d); answers since it last said otherwise may be a dead session's", q.label, q.macro, generation)
		switch {
		case !s.recovers():
			return false, nil
		case x.fresh == s && x.freshGeneration == generation && r.OnFailure == rule.FailPass:
			return false, nil
		case x.fresh == s && x.freshGeneration == generation:
			_, err := x.stillDead(r, nil)
			return false, err
		}
		if err := x.ready(ctx, r, s); err != nil {
			return false, err
		}
		if s.generation.Load() == generation {
			return false, nil // there is no session to be had, and on_failure is pass
		}
	}
	return alive, nil
}

// hear waits for a probe's word, for as long as the inquiry lets it; without
// one the session counts as alive.
func (x *exchange) hear(ctx context.Context, q *inquiry, ask func(context.Context) (alive, asked bool)) (alive bool, err error) {
	limited, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	alive, asked := ask(limited)
	switch {
	case asked && alive:
		x.note(q.rule, flow.ActionAlive, "%smacro %s was asked and did not say that the session is dead", q.label, q.macro)
	case asked:
		return false, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case x.engine.ctx.Err() != nil:
		return false, closing()
	default:
		x.note(q.rule, flow.ActionNote, "%smacro %s had no word within %s: the request goes on", q.label, q.macro, q.wait)
	}
	return true, nil
}
