package session

import (
	"context"
	"sync"
)

// batch runs one function for everybody who asks at about the same time. An
// answer is only given to callers that asked before its run began: a probe
// that started before a request's dead answer came proves nothing about that
// answer.
type batch struct {
	mu      sync.Mutex
	running bool
	next    *batchRun
	current *batchRun // under way
}

type batchRun struct {
	done  chan struct{}
	alive bool
}

// do waits for a run of fn that begins after the call of do. spawn starts a
// goroutine that somebody waits for, or reports that none may be started.
func (b *batch) do(ctx context.Context, spawn func(func()) bool, fn func() bool) (alive, asked bool) {
	b.mu.Lock()
	if b.next == nil {
		b.next = &batchRun{done: make(chan struct{})}
	}
	run := b.next
	if !b.running {
		b.running = spawn(func() { b.loop(fn) })
		if !b.running {
			b.next = nil
			b.mu.Unlock()
			return false, false
		}
	}
	b.mu.Unlock()
	return run.wait(ctx)
}

// share is do for whom a run that is under way is good enough.
func (b *batch) share(ctx context.Context, spawn func(func()) bool, fn func() bool) (alive, asked bool) {
	b.mu.Lock()
	run := b.current
	b.mu.Unlock()
	if run == nil {
		return b.do(ctx, spawn, fn)
	}
	return run.wait(ctx)
}

func (r *batchRun) wait(ctx context.Context) (alive, asked bool) {
	select {
	case <-r.done:
		return r.alive, true
	case <-ctx.Done():
		return false, false
	}
}

func (b *batch) loop(fn func() bool) {
	for {
		b.mu.Lock()
		run := b.next
		b.next, b.current = nil, run
		if run == nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		run.alive = fn()
		b.mu.Lock()
		b.current = nil // who asks from now on wants a later word
		b.mu.Unlock()
		close(run.done)
	}
}
