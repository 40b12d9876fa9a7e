package ca

import (
	"container/list"
	"crypto/tls"
	"sync"
	"time"
)

// made is a leaf and the time from which it is not handed out any more.
type made struct {
	cert  *tls.Certificate
	renew time.Time
}

// A cache holds up to CacheSize leaves by canonical name. The zero value is
// ready.
type cache struct {
	mu      sync.Mutex
	order   list.List                // of *kept, most recently used first
	leaves  map[string]*list.Element // the same, by name
	pending map[string]*making
}

type kept struct {
	name string
	made
}

// making is a signature under way. cert and err are set before done closes.
type making struct {
	done chan struct{}
	cert *tls.Certificate
	err  error
}

// get returns the leaf of name, or has issue make it: once for everybody who
// asks meanwhile, and outside the lock.
func (c *cache) get(name string, now time.Time, issue func() (made, error)) (*tls.Certificate, error) {
	c.mu.Lock()
	if e, ok := c.leaves[name]; ok {
		if leaf := e.Value.(*kept); now.Before(leaf.renew) {
			c.order.MoveToFront(e)
			cert := leaf.cert
			c.mu.Unlock()
			return cert, nil
		}
	}
	if m, ok := c.pending[name]; ok {
		c.mu.Unlock()
		<-m.done
		return m.cert, m.err
	}
	m := &making{done: make(chan struct{})}
	if c.pending == nil {
		c.pending = map[string]*making{}
		c.leaves = map[string]*list.Element{}
	}
	c.pending[name] = m
	c.mu.Unlock()

	leaf, err := issue()

	c.mu.Lock()
	if err == nil {
		c.put(name, leaf)
	}
	delete(c.pending, name)
	c.mu.Unlock()
	m.cert, m.err = leaf.cert, err
	close(m.done)
	return m.cert, m.err
}

// put stores a leaf, over an older one of that name or in place of the least
// recently used. The lock is held.
func (c *cache) put(name string, leaf made) {
	if e, ok := c.leaves[name]; ok {
		e.Value.(*kept).made = leaf
		c.order.MoveToFront(e)
		return
	}
	c.leaves[name] = c.order.PushFront(&kept{name, leaf})
	if c.order.Len() > CacheSize {
		oldest := c.order.Back()
		delete(c.leaves, c.order.Remove(oldest).(*kept).name)
	}
}
