package main

import (
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// originTable knows the origin of each running script by its work directory.
type originTable struct {
	mu sync.Mutex
	by map[string]*testenv.Server
}

var origins = &originTable{by: map[string]*testenv.Server{}}

func (o *originTable) put(work string, s *testenv.Server) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.by[work] = s
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
