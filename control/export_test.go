package control

import (
	"context"

	"github.com/holdfast-proxy/holdfast/store"
)

// ListShown is ListFlows for somebody who may not see secrets, of which known are
// some.
func ListShown(ctx context.Context, s *store.Store, p *FlowSearch, known ...string) (*FlowPage, error) {
	h := &hider{}
	for _, value := range known {
		h.secret(value)
	}
	h.replace("any")
	return listFlows(ctx, s, p, (*Desk)(nil).see(h, false), h)
}
