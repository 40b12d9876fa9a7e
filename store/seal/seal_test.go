package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holdfast-proxy/holdfast/store/seal"
)

func box(t *testing.T, fill byte) *seal.Box {
	t.Helper()
	b, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Another process with the key opens what was sealed; nothing else does.
func TestWhatIsSealedOpensAtItsPlaceOnly(t *testing.T) {
	secret := []byte("a refresh token")
	sealed := box(t, 1).Seal([]byte("before"), secret, "flow/1")
	if !bytes.HasPrefix(sealed, []byte("before")) || bytes.Contains(sealed, secret) {
		t.Fatalf("sealed: %q", sealed)
	}
	sealed = sealed[len("before"):]
	if len(sealed) != len(secret)+seal.Overhead {
		t.Errorf("%d bytes became %d", len(secret), len(sealed))
	}
	if got, err := box(t, 1).Open(nil, sealed, "flow/1"); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %q, %v", got, err)
	}
	closed := func(name string, b *seal.Box, sealed []byte, place string) {
		if got, err := b.Open(nil, sealed, place); !errors.Is(err, seal.ErrSealed) || len(got) > 0 {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	closed("another key", box(t, 2), sealed, "flow/1")
	closed("another place", box(t, 1), sealed, "flow/2")
	for i := range sealed {
		closed("cut", box(t, 1), sealed[:i], "flow/1")
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		closed("changed", box(t, 1), changed, "flow/1")
	}
}

// Equal contents have equal sums under one key, and tell nothing without it.
func TestSumsAreOfAKey(t *testing.T) {
	if box(t, 1).Sum([]byte("a"), []byte("b")) != box(t, 1).Sum([]byte("ab")) {
		t.Error("one key, two sums")
	}
	if box(t, 1).Sum([]byte("ab")) == box(t, 2).Sum([]byte("ab")) {
		t.Error("two keys, one sum")
	}
}
