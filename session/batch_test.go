package session_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-proxy/holdfast/session"
)

// newBatch is a batch and a function that waits for its goroutines.
func newBatch() (*session.Batch, func()) {
	var group sync.WaitGroup
	return &session.Batch{Spawn: func(fn func()) bool { group.Go(fn); return true }}, group.Wait
}

// A probe that began before a dead answer came proves nothing about it.
func TestNobodyJoinsARunThatBeganBefore(t *testing.T) {
	b, wait := newBatch()
	defer wait()
	began, let := make(chan int32), make(chan bool)
	var runs atomic.Int32
	fn := func() bool {
		began <- runs.Add(1)
		return <-let
	}
	type word struct{ alive, asked bool }
	ask := func() chan word {
		c := make(chan word, 1)
		go func() { alive, asked := b.Do(context.Background(), fn); c <- word{alive, asked} }()
		return c
	}
	first := ask()
	<-began
	late := []chan word{ask(), ask(), ask()}
	let <- true
	if w := <-first; !w.alive || !w.asked {
		t.Errorf("the first caller got %+v", w)
	}
	if n := <-began; n != 2 {
		t.Errorf("run %d; want a second one for those that came during the first", n)
	}
	let <- false
	// A late caller may have come after the second run began: it gets a third.
	for done := 0; done < len(late); {
		select {
		case w := <-late[done]:
			if w.alive || !w.asked {
				t.Errorf("a caller that came during the first run got %+v; want the word of a later one", w)
			}
			done++
		case <-began:
			let <- false
		}
	}
}

func TestACallerMayLeaveTheBatch(t *testing.T) {
	b, wait := newBatch()
	began, let := make(chan bool), make(chan bool)
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan bool)
	go func() {
		_, asked := b.Do(ctx, func() bool { close(began); <-let; return true })
		left <- asked
	}()
	<-began
	cancel()
	if <-left {
		t.Error("a caller that left was told something")
	}
	close(let)
	wait()
	if alive, asked := b.Do(context.Background(), func() bool { return true }); !alive || !asked {
		t.Error("the batch does not run any more")
	}
	wait()
}

func TestABatchThatMayNotStart(t *testing.T) {
	b := &session.Batch{Spawn: func(func()) bool { return false }}
	for range 2 {
		if _, asked := b.Do(context.Background(), func() bool { t.Error("ran"); return true }); asked {
			t.Error("told something without a run")
		}
	}
}

// Under any schedule a caller's run begins after its call.
func TestRunsBeginAfterTheirCallers(t *testing.T) {
	b, wait := newBatch()
	var clock, began atomic.Int64
	fn := func() bool { began.Store(clock.Add(1)); return true }
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 200 {
				called := clock.Add(1)
				b.Do(context.Background(), fn)
				if began.Load() < called {
					t.Error("a caller was given the word of a run that had begun before it")
				}
			}
		})
	}
	group.Wait()
	wait()
}
