package learn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/session"
)

// ErrBudget is wrapped where the application would be asked more often than
// Options.MaxRequests says.
var ErrBudget = errors.New("the requests that may be sent are used up; allow more with --max-requests")

// asker sends requests, each after a pause, and no more than it may.
type asker struct {
	ctx    context.Context
	inner  flow.Handler
	most   int64
	pause  time.Duration
	sent   atomic.Int64
	last   time.Time // only one goroutine asks
	wait   func(context.Context, time.Duration) error
	lookup func(string) (string, bool) // variables
	any    *httpql.Query               // every answer
}

// send is a flow.Handler within the bounds.
func (a *asker) send(ctx context.Context, f *flow.Flow) error {
	if a.sent.Add(1) > a.most {
		return ErrBudget
	}
	if !a.last.IsZero() {
		if err := a.wait(ctx, a.pause-time.Since(a.last)); err != nil {
			return err
		}
	}
	defer func() { a.last = time.Now() }()
	return a.inner(ctx, f)
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// state is a session as one request carries it.
type state struct {
	values map[string]string
	jar    *jar.Jar
	// anonymous: the lines of the request that carry tokens are left out.
	anonymous bool
}

func nobody() *state { return &state{jar: newJar(), anonymous: true} }

func newJar() *jar.Jar { return jar.New(jar.Options{TrustLoopback: true}) }

// copied is a state whose jar requests may change.
func (s *state) copied() *state {
	c := &state{values: s.values, jar: newJar(), anonymous: s.anonymous}
	c.jar.Import(s.jar.All(), time.Now())
	return c
}

// spoilt is a state that no origin knows.
func (s *state) spoilt() *state {
	c := s.copied()
	c.values = maps.Clone(s.values)
	for name, v := range c.values {
		c.values[name] = session.Spoilt(v)
	}
	for _, k := range c.jar.All() {
		if len(k.Value) >= 8 {
			k.Value = session.Spoilt(k.Value)
			if _, err := c.jar.Put(k, time.Now()); err != nil {
				continue // as it was
			}
		}
	}
	return c
}

// run runs a macro with a state; the state takes what it brings.
func (a *asker) run(m *macro.Macro, s *state) (*macro.Result, error) {
	r, err := m.Run(a.ctx, macro.Env{Jar: s.jar, Now: time.Now, Send: a.send, Lookup: func(name string) (string, bool) {
		if v, ok := s.values[name]; ok {
			return v, true
		}
		return a.lookup(name)
	}})
	if err != nil {
		return nil, err
	}
	values := maps.Clone(s.values)
	if values == nil {
		values = make(map[string]string)
	}
	maps.Copy(values, r.Values)
	s.values = values
	return r, nil
}

// ask sends one recorded request with a state, which stays as it is.
func (a *asker) ask(q *question, s *state) (*answer, error) {
	text := q.template
	if s.anonymous {
		text = q.plain
	}
	t, err := macro.ParseRequest(text, true)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", q.entry, err)
	}
	m := &macro.Macro{Name: "asked", Steps: []macro.Step{{Request: t, Expect: a.any}}}
	r, err := a.run(m, s.copied())
	if err != nil {
		return nil, err
	}
	last := &r.Steps[len(r.Steps)-1]
	return newAnswer(last.Response, last.Body), nil
}
