package testenv

import (
	"context"
	"fmt"
	"sync"
)

// maxGates bounds the names that requests can make up.
const maxGates = 4096

// gates are named points where requests wait.
type gates struct {
	mu     sync.Mutex
	named  map[string]*gate
	before map[string]string // path to gate: wait, then handle
	after  map[string]string // path to gate: handle, then wait
	closed chan struct{}
}

type gate struct {
	open chan struct{} // closed when the gate opens
	held int           // who waits
	news chan struct{} // closed and replaced when held rises
}

func newGates() *gates {
	return &gates{
		named:  map[string]*gate{},
		before: map[string]string{},
		after:  map[string]string{},
		closed: make(chan struct{}),
	}
}

// get returns the gate of that name, shut when it is new. mu is held.
func (g *gates) get(name string) (*gate, error) {
	if at, ok := g.named[name]; ok {
		return at, nil
	}
	if len(g.named) >= maxGates {
		return nil, fmt.Errorf("more than %d gates", maxGates)
	}
	at := &gate{open: make(chan struct{}), news: make(chan struct{})}
	g.named[name] = at
	return at, nil
}

// wait returns nil when the gate is open.
func (g *gates) wait(ctx context.Context, name string) error {
	g.mu.Lock()
	at, err := g.get(name)
	if err != nil {
		g.mu.Unlock()
		return err
	}
	open := at.open
	at.held++
	close(at.news)
	at.news = make(chan struct{})
	g.mu.Unlock()

	defer func() {
		g.mu.Lock()
		at.held--
		g.mu.Unlock()
	}()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-g.closed:
		return errClosed
	}
}

func (g *gates) release(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, err := g.get(name); err == nil && !isClosed(at.open) {
		close(at.open)
	}
}

func (g *gates) shut(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, err := g.get(name); err == nil && isClosed(at.open) {
		at.open = make(chan struct{})
	}
}

func (g *gates) hold(path, name string, after bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if after {
		g.after[path] = name
	} else {
		g.before[path] = name
	}
}

// at says where requests for a path wait; "" is nowhere.
func (g *gates) at(path string) (before, after string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.before[path], g.after[path]
}

func (g *gates) waitHeld(ctx context.Context, name string, n int) error {
	for {
		g.mu.Lock()
		at, err := g.get(name)
		if err != nil {
			g.mu.Unlock()
			return err
		}
		held, news := at.held, at.news
		g.mu.Unlock()
		if held >= n {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%d are there: %w", held, ctx.Err())
		case <-g.closed:
			return errClosed
		}
	}
}

func (g *gates) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !isClosed(g.closed) {
		close(g.closed)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
