package mcp

import (
	"context"
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/control/params"
	"github.com/holdfast-proxy/holdfast/flow"
)

// Caller does operations. Several goroutines may call it.
type Caller interface {
	// Call does an operation with parameters that were checked, and returns its
	// result as JSON. An error is a *flow.Error, or that of ctx.
	Call(ctx context.Context, op *control.Operation, values map[string]any) (json.RawMessage, error)
}

// deskCaller does operations in this process.
type deskCaller struct {
	desk *control.Desk
	sets map[string]*params.Set // by the operation's name
}

// AtDesk is a Caller that does operations in this process.
func AtDesk(desk *control.Desk) (Caller, error) {
	c := &deskCaller{desk, map[string]*params.Set{}}
	registry := huma.NewMapRegistry("#/$defs/", huma.DefaultSchemaNamer)
	for _, op := range control.Operations() {
		set, err := params.Of(&op, registry)
		if err != nil {
			return nil, err
		}
		c.sets[op.Name] = set
	}
	return c, nil
}

// Call does an operation.
func (c *deskCaller) Call(ctx context.Context, op *control.Operation, values map[string]any) (json.RawMessage, error) {
	decoded, faults := c.sets[op.Name].Decode(values)
	if len(faults) > 0 {
		return nil, faulty(op, faults)
	}
	result, err := op.Call(ctx, c.desk, decoded)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return nil, &flow.Error{Status: 500, Reason: control.ReasonInternal, Detail: "The result is no JSON.", Next: "Report it, with what was asked for."}
	}
	return raw, nil
}
