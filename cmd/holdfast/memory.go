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
// does. The collector runs when the heap has doubled, so after a burst, such
// as a thousand handshakes, it would not run for as long as nobody does
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

// spare has the collector run when the heap has grown by half, not doubled. What
// passes allocates little, so that it costs next to nothing, and the copies that a
// large body leaves behind do not double what the process takes.
func spare() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// twoAtOnce has Go code run on two threads at least. With one processor it would
// otherwise stand still for milliseconds while the history's thread waits for
// the disk.
func twoAtOnce() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	}
}
