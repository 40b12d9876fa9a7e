package holdfast_test

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// A Watch has the flows of its time alone, those that are under way at its end
// too, by their rows.
func TestWatch(t *testing.T) {
	w, s := keptWorld(t, testenv.Origin{TLS: true}, "rules: []\n", "")
	w.get("/echo?before")
	began := 0
	watch, err := w.h.Watch(func(f *flow.Flow) bool { began++; return string(f.Request.Path()) != "/as/404" }, func(f *flow.Flow) bool { return f.Response.Status() != 401 })
	if err != nil {
		t.Fatal(err)
	}
	w.origin.HoldAnswer("/as/202", "slow")
	done := make(chan struct{})
	go func() { defer close(done); w.get("/as/202") }()
	if err := w.origin.WaitHeld(t.Context(), "slow", 1); err != nil {
		t.Fatal(err)
	}
	w.get("/echo?one")
	w.get("/as/401")
	w.get("/as/404")
	stopped := make(chan struct{})
	go func() { defer close(stopped); watch.Stop(t.Context()) }()
	w.origin.Release("slow")
	<-done
	<-stopped
	w.get("/echo?after")
	watch.Stop(t.Context()) // again is nothing
	got := watch.Flows()
	if began != 4 || len(got.Rows) != 2 || got.Under+got.Left+got.Missed+got.Unkept != 0 {
		t.Fatalf("%d began; %+v", began, got)
	}
	for i, want := range []string{"/as/202", "/echo?one"} {
		stored, err := s.Flow(t.Context(), got.Rows[i])
		if err != nil || string(stored.Flow.Received.Target()) != want {
			t.Errorf("flow %d: %v %v; want %s", i, stored, err, want)
		}
	}
}

// What does not end is not waited for longer than one wants.
func TestWatchLeaves(t *testing.T) {
	w, _ := keptWorld(t, testenv.Origin{TLS: true}, "rules: []\n", "")
	var all []*holdfast.Watch
	for range holdfast.MaxWatches {
		watch, err := w.h.Watch(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, watch)
	}
	if _, err := w.h.Watch(nil, nil); !errors.Is(err, holdfast.ErrWatches) {
		t.Errorf("one too many: %v", err)
	}
	w.origin.HoldAnswer("/as/202", "slow")
	done := make(chan struct{})
	go func() { defer close(done); w.get("/as/202") }()
	if err := w.origin.WaitHeld(t.Context(), "slow", 1); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, watch := range all {
		watch.Stop(over)
		if got := watch.Flows(); got.Left != 1 || len(got.Rows) != 0 {
			t.Errorf("%+v", got)
		}
	}
	if _, err := w.h.Watch(nil, nil); err != nil {
		t.Errorf("all are over: %v", err)
	}
	w.origin.Release("slow")
	<-done
}

func TestWatchNeedsBodies(t *testing.T) {
	w, _ := keptWorld(t, testenv.Origin{TLS: true}, "rules: []\n", holdfast.HistoryHeads)
	if _, err := w.h.Watch(nil, nil); !errors.Is(err, holdfast.ErrNoHistory) {
		t.Errorf("%v", err)
	}
}
