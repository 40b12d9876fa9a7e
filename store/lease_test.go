package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// aLong time is longer than any test, a short one over at once.
const (
	aLong  = time.Hour
	aShort = time.Microsecond
)

func TestOneContenderWinsALease(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		const contenders = 16
		rounds := int64(50)
		if !store.IsPostgres(p.DSN) {
			rounds = 10 // its writers wait for each other by pausing
		}
		nodes := []*store.Store{p.Open(t, store.Options{}), p.Open(t, store.Options{})}
		for round := int64(1); round <= rounds; round++ {
			var wins []store.Lease
			var mu sync.Mutex
			var group sync.WaitGroup
			for i := range contenders {
				group.Go(func() {
					l, err := nodes[i%len(nodes)].Acquire(t.Context(), "key", fmt.Sprint("node ", i), aLong)
					mu.Lock()
					defer mu.Unlock()
					var held *store.Held
					switch {
					case err == nil:
						wins = append(wins, l)
					case !errors.As(err, &held):
						t.Error(err)
					case held.Fence != round || held.Owner == "":
						t.Errorf("round %d: %+v", round, held)
					}
				})
			}
			group.Wait()
			if len(wins) != 1 || wins[0].Fence != round {
				t.Fatalf("round %d: %+v", round, wins)
			}
			if err := nodes[0].Release(t.Context(), wins[0], nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestALeaseIsLostByItsClock(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s, ctx := p.Open(t, store.Options{}), t.Context()
		first, err := s.Acquire(ctx, "key", "a", aShort)
		if err != nil {
			t.Fatal(err)
		}
		second := acquire(t, s, "key", "b") // which waits until the first is over
		if second.Fence != first.Fence+1 {
			t.Errorf("%+v after %+v", second, first)
		}
		if err := s.Renew(ctx, first, aLong); !errors.Is(err, store.ErrFenced) {
			t.Errorf("renewed late: %v", err)
		}
		if err := s.Release(ctx, first, []byte("late")); !errors.Is(err, store.ErrFenced) {
			t.Errorf("released late: %v", err)
		}
		if err := s.Renew(ctx, second, aLong); err != nil {
			t.Error(err)
		}
		if err := s.Release(ctx, second, []byte("refused")); err != nil {
			t.Error(err)
		}
		outcome, fence, err := s.Outcome(ctx, "key")
		if string(outcome) != "refused" || fence != second.Fence || err != nil {
			t.Errorf("%q, %d, %v", outcome, fence, err)
		}
		third := acquire(t, s, "key", "c")
		if outcome, fence, err = s.Outcome(ctx, "key"); len(outcome) > 0 || fence != third.Fence || err != nil {
			t.Errorf("%q, %d, %v", outcome, fence, err)
		}
	})
}

// acquire takes a lease that is about to be free.
func acquire(t *testing.T, s *store.Store, key, owner string) store.Lease {
	t.Helper()
	for {
		l, err := s.Acquire(t.Context(), key, owner, aLong)
		var held *store.Held
		if errors.As(err, &held) && held.For < time.Second {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
}
