package store_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/seal"
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

// What cannot be opened is named, without its password.
func TestAServerThatIsAwayIsNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // nobody listens there now
	_, err = storetest.Project{DSN: "postgres://anna:hunter2@" + ln.Addr().String() + "/shop?sslmode=disable"}.Try(t, store.Options{})
	if err == nil || !strings.Contains(err.Error(), "postgres://anna:xxxxx@"+ln.Addr().String()+"/shop") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// A project is opened while another one in the same database is brought up to
// date.
func TestProjectsOfADatabaseDoNotWaitForEachOther(t *testing.T) {
	busy, other := storetest.Postgres(t), storetest.Postgres(t)
	release := store.Update(t, busy)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s, err := store.Open(ctx, store.Options{DSN: other, Key: make([]byte, seal.KeySize)})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
