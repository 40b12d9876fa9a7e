package store_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/store"
)

func TestFailuresSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := store.OpenFailures(dir).Save("alice", []time.Time{at, at.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	got, err := store.OpenFailures(dir).Load("alice")
	if err != nil || len(got) != 2 || !got[0].Equal(at) {
		t.Fatalf("got %v, %v; want the two failures", got, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, store.FailuresFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
}

func TestForgetUnlocksOnlyWhatBeginsWithThePrefix(t *testing.T) {
	dir := t.TempDir()
	one, other := store.OpenFailures(dir), store.OpenFailures(dir)
	for _, key := range []string{"alice\x00login", "alice\x00refresh,login", "bob\x00login"} {
		if err := one.Save(key, []time.Time{time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := other.Forget("alice\x00"); n != 2 || err != nil {
		t.Fatalf("Forget: %d, %v; want 2", n, err)
	}
	if got, _ := one.Load("alice\x00login"); got != nil {
		t.Errorf("alice still has %v", got)
	}
	if got, _ := one.Load("bob\x00login"); len(got) != 1 {
		t.Errorf("bob has %v; want one failure", got)
	}
}

func TestADamagedFileIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, store.FailuresFile)
	if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.OpenFailures(dir).Save("k", []time.Time{time.Unix(1, 0)}); err == nil {
		t.Error("Save wrote over a damaged file")
	}
	if raw, _ := os.ReadFile(path); string(raw) != "{half" {
		t.Errorf("the file now holds %q", raw)
	}
}
