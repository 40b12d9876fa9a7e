package store_test

import (
	"errors"
	"testing"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

func TestAProjectOpensWithItsKeyOnly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		home := t.TempDir()
		key, err := store.Key(home)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := p.Open(t, store.Options{Key: key}).Close(); err != nil {
				t.Fatal(err)
			}
		}
		other, err := store.Key(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Try(t, store.Options{Key: other}); !errors.Is(err, store.ErrKey) {
			t.Errorf("got %v", err)
		}
	})
}
