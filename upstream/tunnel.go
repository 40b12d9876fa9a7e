package upstream

import (
	"context"

	"github.com/holdfast-proxy/holdfast/flow"
)

// Tunnel connects to f.Origin, by the way that requests to it would take, and
// sets f.Upgraded; it is a flow.Handler. With f.Origin.TLS the bytes of the
// tunnel are inside TLS that ends here. Nothing is sent, and the connection is
// never used for anything else.
func (p *Pool) Tunnel(ctx context.Context, f *flow.Flow) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	k := key{origin: f.Origin, identity: f.Identity, tunnel: true}
	c, err := p.dial(ctx, k, nil)
	if err != nil {
		return err
	}
	c.begin(ctx)
	c.enter(phaseBody)
	f.Upgraded = &tunnel{x: &exchange{c: c}}
	return nil
}
