package session

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// Try runs a macro by its name or ID once, for an identity, and keeps nothing of
// it: the jar is a copy, which begins as the identity's does, and no session
// hears of it. Only a one-time code is used up. inputs are values for the
// macro's inputs and, by their names, for variables. The macro's own failure is
// a *macro.StepError.
func (e *Engine) Try(ctx context.Context, who, name string, inputs map[string]string) (*macro.Result, error) {
	m := e.macros[name]
	if m == nil {
		return nil, e.noMacro(name)
	}
	if _, ok := e.identities[who]; !ok {
		return nil, fmt.Errorf("there is no identity %q", who)
	}
	of := Identity{Name: who}
	if i := slices.IndexFunc(e.config.Identities, func(i Identity) bool { return i.Name == who }); i >= 0 {
		of = e.config.Identities[i]
	}
	m, left := withInputs(m, inputs)
	n := newIdentity(of, nil)
	n.define(e.identities[who].members[0].vars(), left)
	n.jar.Import(of.Cookies, e.now())
	s := &session{engine: e, identity: n, life: new(life)}
	env := s.env()
	env.Send = watched(ctx, e.config.Send)
	return m.Run(ctx, env)
}

type watchKey struct{}

// Watched has Try and RunMacro call sent after each request that they have
// sent, from one goroutine at a time.
func Watched(ctx context.Context, sent func()) context.Context {
	return context.WithValue(ctx, watchKey{}, sent)
}

// Telling is a send of which whoever Watched is told.
func Telling(send flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error { return watched(ctx, send)(ctx, f) }
}

// watched is a send that somebody may be told of.
func watched(ctx context.Context, send flow.Handler) flow.Handler {
	sent, ok := ctx.Value(watchKey{}).(func())
	if !ok {
		return send
	}
	return func(ctx context.Context, f *flow.Flow) error {
		defer sent()
		return send(ctx, f)
	}
}

func (e *Engine) noMacro(name string) error {
	var names []string
	for _, m := range e.config.Macros {
		names = append(names, m.Name)
	}
	return fmt.Errorf("there is no macro %q; the configuration has: %s", name, strings.Join(names, ", "))
}

// withInputs is a macro with values for its inputs; left are those that it has
// no input for.
func withInputs(m *macro.Macro, values map[string]string) (with *macro.Macro, left map[string]string) {
	copied := *m
	copied.Inputs = slices.Clone(m.Inputs)
	left = maps.Clone(values)
	for i := range copied.Inputs {
		in := &copied.Inputs[i]
		value, ok := values[in.Name]
		if !ok {
			continue
		}
		delete(left, in.Name)
		// What is given is a value and no template: braces in it are text.
		in.Value = rule.LiteralTemplate(value)
	}
	return &copied, left
}
