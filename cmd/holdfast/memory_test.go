package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

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

func TestTheHeapGrowsByHalfButNotByLittle(t *testing.T) {
	const mb = 1 << 20
	for inUse := uint64(0); inUse < 200*mb; inUse += mb / 3 {
		percent := growth(inUse)
		// The runtime takes the share of 4 MiB where less is in use.
		grown := max(inUse, 4*mb) * uint64(percent) / 100
		if grown > max(leastGrowth, inUse/2) {
			t.Errorf("%d bytes in use may grow by %d (%d%%)", inUse, grown, percent)
		}
		if grown < max(leastGrowth, inUse/2)*7/10 {
			t.Errorf("%d bytes in use are collected after %d (%d%%) already", inUse, grown, percent)
		}
	}
}

// What other tests have left in use counts too, so that the share for it is
// not known beforehand.
func TestEachCollectionSetsTheNextShare(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(123))
	t.Setenv("GOGC", "")
	pace()
	await := func(want func() int) {
		t.Helper()
		share := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); runtime.GC() {
			if metrics.Read(share); share[0].Value.Uint64() == uint64(want()) {
				return
			}
		}
		t.Fatalf("the share is %d%% after a minute of collections, want %d", share[0].Value.Uint64(), want())
	}
	now := func() int { return growth(inUse()) }
	await(now)
	held := make([]byte, 64<<20)
	await(func() int { return 50 })
	runtime.KeepAlive(held)
	held = nil
	await(now)
}
