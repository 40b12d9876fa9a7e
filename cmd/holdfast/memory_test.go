package main

import "testing"

func TestMemoryIsGivenBackOnceAfterWork(t *testing.T) {
	const mb = 1 << 20
	var w wear
	steps := []struct {
		what             string
		allocated, inUse uint64
		want             bool
	}{
		{"the start", 3 * mb, 3 * mb, false},
		{"little was done", 3*mb + 100, 3 * mb, false},
		{"work", 40 * mb, 20 * mb, false},
		{"more work", 80 * mb, 30 * mb, false},
		{"a quiet second", 80*mb + 1000, 30 * mb, true},
		{"and another", 80*mb + 2000, 10 * mb, false},
		{"a request now and then", 81 * mb, 10 * mb, false},
		{"quiet, but not worth it", 81*mb + 1000, 10 * mb, false},
		{"work", 90 * mb, 20 * mb, false},
		{"quiet", 90*mb + 1000, 20 * mb, true},
		{"work, little for what is in use", 100 * mb, 200 * mb, false},
		{"quiet", 100*mb + 1000, 200 * mb, false},
	}
	for _, s := range steps {
		if got := w.look(s.allocated, s.inUse); got != s.want {
			t.Errorf("%s, %d bytes allocated, %d in use: %v, want %v", s.what, s.allocated, s.inUse, got, s.want)
		}
	}
}
