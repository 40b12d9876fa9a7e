package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// quietLook is how often it is looked whether there is work.
	quietLook = time.Second
	// quietBytes is how much may be allocated from one look to the next while
	// there is none: timers, a few requests.
	quietBytes = 64 << 10
	// wornBytes must have been allocated since memory was given back last,
	// and a quarter of what is in use: else it is not worth a collection.
	wornBytes = 4 << 20
)

// giveBack returns memory to the system whenever work has ended, until ctx
// does. The collector runs when the heap has grown, see pace, so after a burst,
// such as a thousand handshakes, it would not run for as long as nobody does
// anything, and what the burst needed would stay. Under load nothing of this
// happens: it costs nothing per request.
func giveBack(ctx context.Context) {
	ticker := time.NewTicker(quietLook)
	defer ticker.Stop()
	var w wear
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if w.look(heap()) {
			debug.FreeOSMemory()
		}
	}
}

// wear is what was allocated until the last look, and until memory was last
// given back.
type wear struct{ last, given uint64 }

// look tells whether memory is to be given back now.
func (w *wear) look(allocated, inUse uint64) bool {
	quiet := allocated-w.last < quietBytes
	w.last = allocated
	if !quiet || allocated-w.given < max(wornBytes, inUse/4) {
		return false
	}
	w.given = allocated
	return true
}

// heap is how many bytes were allocated since the start, and how many are in
// use or not collected yet.
func heap() (allocated, inUse uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}

// pace has the collector run when what is in use has grown by half, not doubled:
// the copies that a large body leaves behind would double what the process
// takes. But it lets leastGrowth pass first: of a few megabytes in use, half is
// gone after some hundred requests of HTTP/2, and a third of the time would go
// into collecting.
//
// It does so for as long as the process lives, after each collection: the share
// that the runtime knows is of what is in use.
func pace() {
	if os.Getenv("GOGC") != "" {
		return
	}
	p := &pacer{}
	p.again()
}

// leastGrowth is how much may be allocated before the collector runs, however
// little is in use.
const leastGrowth = 8 << 20

// A pacer sets how much the heap may grow, in percent of what is in use.
type pacer struct{ percent int }

// again sets the share for the next collection, and has itself called after it.
func (p *pacer) again() {
	if percent := growth(inUse()); percent != p.percent {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	runtime.AddCleanup(new(*pacer), (*pacer).again, p) // unreachable at once
}

// growth is the share in percent for what is in use. It goes in steps, since
// setting it stops the process for some microseconds. More than 200 would have
// the collector wait for more than leastGrowth at first: the runtime takes the
// same share of 4 MiB for the least heap.
func growth(inUse uint64) int {
	for _, percent := range []int{200, 150, 120, 90, 70} {
		if inUse*uint64(percent) <= 100*leastGrowth {
			return percent
		}
	}
	return 50
}

// inUse is what the last collection found in use, with what the runtime counts
// to it: stacks and globals.
func inUse() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64() + s[2].Value.Uint64()
}

// twoAtOnce has Go code run on two threads at least. With one processor it would
// otherwise stand still for milliseconds while the history's thread waits for
// the disk.
func twoAtOnce() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	}
}
