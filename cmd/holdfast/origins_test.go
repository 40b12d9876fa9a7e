package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// originTable knows the origin of each running script by its work directory.
type originTable struct {
	mu     sync.Mutex
	by     map[string]*testenv.Server
	clocks map[string]*clock
}

var origins = &originTable{by: map[string]*testenv.Server{}, clocks: map[string]*clock{}}

func (o *originTable) put(work string, s *testenv.Server, c *clock) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.by[work], o.clocks[work] = s, c
}

// A clock is as late as the script says, beside the time that passes.
type clock struct{ late atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.late.Load())) }

// later moves the clock of the script's origin.
func (o *originTable) later(ts *testscript.TestScript, by time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clocks[ts.Getenv("WORK")].late.Add(int64(by))
}

func (o *originTable) get(ts *testscript.TestScript) *testenv.Server {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.by[ts.Getenv("WORK")]
	if s == nil {
		ts.Fatalf("this script has no origin yet")
	}
	return s
}
