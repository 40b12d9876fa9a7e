package holdfast

import (
	"context"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
)

// TryMacro runs a macro of c.File once for an identity, "" for the one that New
// would take, and keeps nothing: see session.Engine.Try. Requests go out as
// those of a login do.
func TryMacro(ctx context.Context, c Config, name, identity string, inputs map[string]string) (*macro.Result, error) {
	if identity != "" {
		c.Identity = identity
	}
	h, err := newCore(c)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Engine().Try(ctx, h.Identity(), name, inputs)
}

// OpenSender is how a proxy of the configuration sends requests of its own:
// by its ways out, past the rules. closeAll must be called after the last.
func OpenSender(c Config) (send flow.Handler, closeAll func(), err error) {
	h, err := newCore(c)
	if err != nil {
		return nil, nil, err
	}
	return h.own(h.holds.Load()), h.Close, nil
}
