package store

import (
	"sync/atomic"
	"time"
)

// The kinds of commits that are timed.
const (
	commitState   = iota // [Store.Save]: an answer waits for it
	commitHistory        // a group of flows
	commitKinds
)

// latencyBounds are the upper bounds of the classes; the last class has none.
var latencyBounds = [...]time.Duration{500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 10 * time.Second}

// latencies count transactions by how long they took.
type latencies struct {
	classes [len(latencyBounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

func (l *latencies) since(begun time.Time) {
	took := time.Since(begun)
	class := 0
	for class < len(latencyBounds) && took > latencyBounds[class] {
		class++
	}
	l.classes[class].Add(1)
	l.sum.Add(int64(took))
}

// Latency says how long transactions of one kind took, from the wish to begin
// until they were on the disk. Those that failed are not in it.
type Latency struct {
	Kind  string // "state" or "history"
	Count uint64
	Sum   time.Duration
	// Within is how many took no longer than that many seconds.
	Within map[float64]uint64
}

// Latencies are those since the project was opened.
func (s *Store) Latencies() []Latency {
	all := make([]Latency, commitKinds)
	for kind := range all {
		from, to := &s.took[kind], &all[kind]
		to.Kind, to.Within = [...]string{"state", "history"}[kind], make(map[float64]uint64, len(latencyBounds))
		for class := range from.classes {
			to.Count += from.classes[class].Load()
			if class < len(latencyBounds) {
				to.Within[latencyBounds[class].Seconds()] = to.Count
			}
		}
		to.Sum = time.Duration(from.sum.Load())
	}
	return all
}
