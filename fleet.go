package holdfast

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
)

// fleet is a project that several nodes share, as sessions know it.
type fleet struct {
	store *store.Store
	node  string
}

// nodeOf names this process among the nodes of a project: by its host, and by
// chance, since a host may have several. "" where the project is this process's
// own.
func nodeOf(s *store.Store) string {
	if s == nil || !s.Shared() {
		return ""
	}
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	return host + "-" + strings.ToLower(rand.Text()[:8])
}

// fleetOf is nil where the project is this process's own.
func fleetOf(s *store.Store, node string) session.Fleet {
	if node == "" {
		return nil
	}
	return fleet{s, node}
}

func (f fleet) Acquire(ctx context.Context, key string, length time.Duration) (uint64, *session.Holder, error) {
	l, err := f.store.Acquire(ctx, key, f.node, length)
	var held *store.Held
	if errors.As(err, &held) {
		return 0, &session.Holder{Node: held.Owner, Fence: uint64(held.Fence), For: held.For}, nil
	}
	return uint64(l.Fence), nil, err
}

func (f fleet) lease(key string, fence uint64) store.Lease {
	return store.Lease{Key: key, Owner: f.node, Fence: int64(fence)}
}

func (f fleet) Renew(ctx context.Context, key string, fence uint64, length time.Duration) error {
	return outdated(f.store.Renew(ctx, f.lease(key, fence), length))
}

func (f fleet) Release(ctx context.Context, key string, fence uint64, outcome []byte) error {
	return outdated(f.store.Release(ctx, f.lease(key, fence), outcome))
}

func (f fleet) Outcome(ctx context.Context, key string) ([]byte, uint64, error) {
	outcome, fence, err := f.store.Outcome(ctx, key)
	return outcome, uint64(fence), err
}

func (f fleet) Watch(ctx context.Context, changed func(context.Context, string) error, away func(error), back func()) {
	f.store.Watch(ctx, store.Watcher{Away: away, Back: back,
		Changed: func(ctx context.Context, c store.Change) error { return changed(ctx, c.Key) }})
}

// outdated is an error as sessions know it.
func outdated(err error) error {
	if errors.Is(err, store.ErrOutdated) || errors.Is(err, store.ErrFenced) {
		return session.ErrOutdated
	}
	return err
}
