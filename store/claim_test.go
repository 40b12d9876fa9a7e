package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/store"
)

func TestOneProcessClaimsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "default.db")
	first, err := store.NewClaim(path, "holdfast serve")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Say([]string{"proxy    http://127.0.0.1:8080"}); err != nil {
		t.Fatal(err)
	}
	_, err = store.NewClaim(path, "holdfast serve")
	var claimed *store.Claimed
	if !errors.As(err, &claimed) || claimed.By.PID != os.Getpid() || !strings.Contains(err.Error(), "kept by holdfast serve (process ") || !strings.Contains(err.Error(), "at proxy http://127.0.0.1:8080") {
		t.Errorf("the second: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	again, err := store.NewClaim(path, "holdfast serve")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if err := (*store.Claim)(nil).Close(); err != nil {
		t.Error(err)
	}
}

func TestNodesDoNotClaim(t *testing.T) {
	for range 2 {
		c, err := store.NewClaim("postgres://127.0.0.1/test", "holdfast serve")
		if err == nil {
			err = c.Say([]string{"proxy"})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
}
