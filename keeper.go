package holdfast

import (
	"context"

	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
)

// keeper is a project as sessions know it.
type keeper struct{ store *store.Store }

// keeperOf is nil where there is no project.
func keeperOf(s *store.Store) session.Keeper {
	if s == nil {
		return nil
	}
	return keeper{s}
}

func (k keeper) Load(ctx context.Context, kind, owner string) ([]session.Row, error) {
	rows, err := k.store.Load(ctx, kind, owner)
	var all []session.Row
	for _, r := range rows {
		all = append(all, session.Row(r))
	}
	return all, err
}

func (k keeper) Save(ctx context.Context, rows ...session.Row) error {
	all := make([]store.Row, len(rows))
	for i, r := range rows {
		all[i] = store.Row(r)
	}
	return outdated(k.store.Save(ctx, all...))
}
