package script

import "time"

// Limits bound one run. Zero means the default named with each.
type Limits struct {
	// Time is how long a script may run; what it waits for, a fetch or a body,
	// is not counted; 1 s. A regex is never interrupted; one match ends after
	// half a second.
	Time    time.Duration
	Memory  int64 // bytes by which the heap may grow; see the package doc; 64 MiB
	Log     int   // bytes that it may log, what is beyond is left out; 4 KiB
	Fetches int   // requests that it may send; 10
	Depth   int   // calls inside each other; 500
}

// DefaultLimits is what zero stands for.
func DefaultLimits() Limits {
	return Limits{Time: time.Second, Memory: 64 << 20, Log: 4 << 10, Fetches: 10, Depth: 500}
}

// over is l where it says something, else d.
func (l Limits) over(d Limits) Limits {
	if l.Time == 0 {
		l.Time = d.Time
	}
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	if l.Log == 0 {
		l.Log = d.Log
	}
	if l.Fetches == 0 {
		l.Fetches = d.Fetches
	}
	if l.Depth == 0 {
		l.Depth = d.Depth
	}
	return l
}

// What is built by one operation at most.
const (
	maxElements = 1 << 20 // of an array
	maxRegex    = 4 << 20 // characters that a regex looks at
	maxNesting  = 1000    // of JSON
	maxPattern  = 16 << 10
)

// maxText is how long a text can be that one operation builds, in characters.
func (l Limits) maxText() int { return int(l.Memory / 8) }
