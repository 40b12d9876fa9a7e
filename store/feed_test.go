package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

const patience = 2 * time.Minute

// watch collects what a store tells.
func watch(t *testing.T, s *store.Store, refuse func(store.Change) error) <-chan store.Change {
	told := make(chan store.Change, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		s.Watch(ctx, store.Watcher{Changed: func(_ context.Context, c store.Change) error {
			if refuse != nil {
				if err := refuse(c); err != nil {
					return err
				}
			}
			told <- c
			return nil
		}})
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return told
}

// until waits for a version of a key, past older ones.
func until(t *testing.T, told <-chan store.Change, want store.Change) {
	t.Helper()
	late := time.After(patience)
	last := map[string]int64{}
	for {
		select {
		case c := <-told:
			if c.Version <= last[c.Key] || c.Key == want.Key && c.Version > want.Version {
				t.Fatalf("told %+v after %v", c, last)
			}
			if c == want {
				return
			}
			last[c.Key] = c.Version
		case <-late:
			t.Fatalf("%+v was not told", want)
		}
	}
}

func TestChangesAreTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		writer, other, ctx := p.Open(t, store.Options{}), p.Open(t, store.Options{}), t.Context()
		touch := func(key string, commit bool) {
			if err := writer.Touch(ctx, key, commit); err != nil {
				t.Fatal(err)
			}
		}
		touch("a", true)
		first := true
		told := watch(t, other, func(c store.Change) error {
			if first && c.Key == "a" {
				first = false
				return errors.New("not now")
			}
			return nil
		})
		until(t, told, store.Change{Key: "a", Version: 1}) // from before, and again after an error
		for range 20 {
			touch("b", true)
			touch("b", false) // nobody hears of what was not committed
		}
		until(t, told, store.Change{Key: "b", Version: 20})
		same := watch(t, writer, nil)
		until(t, same, store.Change{Key: "b", Version: 20})
		touch("b", true)
		until(t, told, store.Change{Key: "b", Version: 21})
		until(t, same, store.Change{Key: "b", Version: 21})
	})
}
