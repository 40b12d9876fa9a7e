package store_test

import (
	"errors"
	"fmt"
	"slices"
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

// An owner that was stopped and comes back writes nothing, neither the row that
// must be new nor what was to go with it.
func TestALateOwnerWritesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s, ctx := p.Open(t, store.Options{}), t.Context()
		save := func(l store.Lease, value string) error {
			return s.Save(ctx, store.Row{Kind: "token", Owner: "alice", Name: "a", Version: 9, Fence: uint64(l.Fence), Value: []byte(value)},
				store.Row{Kind: "session", Owner: "alice", Name: "s", Version: 9, Fence: uint64(l.Fence), Must: true, Lease: l.Key, Value: []byte(value)})
		}
		is := func(want string) {
			t.Helper()
			rows, err := s.Load(ctx, "", "alice")
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if string(r.Value) != want {
					t.Errorf("%s is %q; want %q", r.Kind, r.Value, want)
				}
			}
		}
		first, err := s.Acquire(ctx, "key", "a", aShort)
		if err != nil {
			t.Fatal(err)
		}
		if err := save(first, "first"); err != nil { // it is over, but nobody has followed
			t.Fatal(err)
		}
		second := acquire(t, s, "key", "b")
		if err := save(first, "late"); !errors.Is(err, store.ErrOutdated) { // before the second wrote anything
			t.Errorf("written late: %v", err)
		}
		is("first")
		if err := save(second, "second"); err != nil {
			t.Fatal(err)
		}
		if err := save(first, "late"); !errors.Is(err, store.ErrOutdated) {
			t.Errorf("written late: %v", err)
		}
		is("second")
	})
}

// Nodes that write the same rows in any order do not stand in each other's way.
func TestNodesWriteTheSameRows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		nodes := []*store.Store{p.Open(t, store.Options{}), p.Open(t, store.Options{})}
		var group sync.WaitGroup
		for n, s := range nodes {
			for i := range 8 {
				group.Go(func() {
					rows := []store.Row{{Kind: "token", Owner: "alice", Name: "a"}, {Kind: "token", Owner: "alice", Name: "b"}, {Kind: "token", Owner: "bob", Name: "a"}}
					if n == 1 {
						slices.Reverse(rows)
					}
					for j := range rows {
						rows[j].Version, rows[j].Value = uint64(2*i+n+1), []byte{byte(i)}
					}
					if err := s.Save(t.Context(), rows...); err != nil {
						t.Error(err)
					}
				})
			}
		}
		group.Wait()
		rows, err := nodes[0].Load(t.Context(), "token", "alice")
		if err != nil || len(rows) != 2 || rows[0].Version != 16 || rows[1].Version != 16 {
			t.Errorf("%+v, %v", rows, err)
		}
	})
}
