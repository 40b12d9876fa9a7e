package session_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

// crowd is an origin with any number of sessions, and the connections of its
// clients.
type crowd struct {
	*proxy
	t      testing.TB
	logins atomic.Int64
	hold   chan struct{} // what requests under way wait for; nil: nothing

	mu          sync.Mutex
	connections map[uint64]context.Context
	leave       map[uint64]context.CancelFunc
}

func newCrowd(t testing.TB, pool session.Pool) *crowd {
	c := &crowd{t: t, connections: make(map[uint64]context.Context), leave: make(map[uint64]context.CancelFunc)}
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error {
		return answer(f, 200, fmt.Sprintf(`{"access":"token-%d"}`, c.logins.Add(1)))
	})
	o.handle("/a", func(_ context.Context, f *flow.Flow) error {
		if c.hold != nil {
			<-c.hold
		}
		return answer(f, 200, authorization(f))
	})
	s := newSetup(t, o, bearer(t))
	s.Identities = []session.Identity{{Name: "alice", Pool: pool}}
	c.proxy = s.start(t, o)
	return c
}

// send is a request of a client's connection; it says whose session it had.
func (c *crowd) send(client uint64, proto wire.Proto) result {
	f := newFlow(c.t, "GET /a HTTP/1.1\nHost: o", nil)
	if proto == wire.HTTP2 {
		r := new(wire.Request)
		r.Reset(wire.HTTP2)
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "o"}, {":path", "/a"}} {
			if err := r.AppendField([]byte(field[0]), []byte(field[1]), 0); err != nil {
				c.t.Error(err)
			}
		}
		f.Request, f.Received = r, r
	}
	c.mu.Lock()
	if c.connections[client] == nil {
		c.connections[client], c.leave[client] = context.WithCancel(context.Background())
	}
	ctx := c.connections[client]
	c.mu.Unlock()
	f.Client, f.Connection = client, ctx
	return c.deliver(ctx, f)
}

// uses fails the test unless the request had that session, counted by login.
func (c *crowd) uses(client uint64, proto wire.Proto, session int) {
	c.t.Helper()
	if r := c.send(client, proto); r.status != 200 || r.body != fmt.Sprintf("token-%d", session) {
		c.t.Errorf("connection %d: %v; want session %d. Trace: %+v", client, r, session, r.flow.Trace.Events)
	}
}

// ends closes a client's connection.
func (c *crowd) ends(client uint64) {
	c.mu.Lock()
	c.leave[client]()
	c.mu.Unlock()
	synctest.Wait()
}

func (c *crowd) close() {
	for _, leave := range c.leave {
		leave()
	}
	c.engine.Close()
}

func TestAConnectionLeasesASessionForItsLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, session.Pool{Sessions: 2})
		for range 3 {
			c.uses(1, wire.HTTP1, 1)
			c.uses(2, wire.HTTP1, 2)
		}
		c.uses(3, wire.HTTP1, 1) // shared, as both are leased
		c.uses(4, wire.HTTP1, 2)
		c.ends(2)
		c.ends(4)
		c.uses(5, wire.HTTP1, 2)
		c.uses(6, wire.HTTP1, 2)
		c.uses(1, wire.HTTP1, 1)
		if st := c.engine.Status(); len(st) != 2 || st[1].Session != 2 || st[1].Sessions != 2 || st[1].Logins != 1 {
			t.Errorf("status %+v", st)
		}
		c.close()
	})
}

func TestConnectionsWaitForASessionInTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, session.Pool{Sessions: 2, Wait: true})
		c.uses(1, wire.HTTP1, 1)
		c.uses(2, wire.HTTP1, 2)
		var group sync.WaitGroup
		var third, fourth result
		group.Go(func() { third = c.send(3, wire.HTTP1) })
		synctest.Wait()
		group.Go(func() { fourth = c.send(4, wire.HTTP1) })
		synctest.Wait()
		<-time.After(time.Second)
		c.ends(2)
		synctest.Wait()
		if third.body != "token-2" || !third.traced("wait for a session: all 2 were leased for 1s") || fourth.flow != nil {
			t.Errorf("the third got %v, the fourth %v", third, fourth)
		}
		c.ends(4) // while it waits
		group.Wait()
		if fourth.failed == nil || fourth.failed.Reason != flow.ReasonClosing {
			t.Errorf("a client that left got %v", fourth)
		}
		r := c.send(5, wire.HTTP1) // nobody leaves
		if r.failed == nil || r.failed.Reason != flow.ReasonBusy || r.failed.Status != 503 {
			t.Errorf("got %v", r)
		}
		c.ends(1)
		c.uses(6, wire.HTTP1, 1)
		c.close()
	})
}

// The streams of a connection have its session one after the other, and others
// where several are open.
func TestStreamsLeaseForThemselves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, session.Pool{Sessions: 3})
		for range 3 {
			c.uses(1, wire.HTTP2, 1)
			c.uses(2, wire.HTTP2, 2)
		}
		c.hold = make(chan struct{})
		var group sync.WaitGroup
		results := make([]result, 4)
		for i := range results {
			group.Go(func() { results[i] = c.send(2, wire.HTTP2) })
			synctest.Wait()
		}
		close(c.hold)
		group.Wait()
		for i, want := range []string{"token-2", "token-3", "token-1", "token-1"} {
			if results[i].body != want {
				t.Errorf("stream %d: %v; want %s", i, results[i], want)
			}
		}
		c.uses(2, wire.HTTP2, 2)
		c.ends(1)
		c.ends(2)
		c.uses(3, wire.HTTP2, 1)
		c.close()
	})
}

func TestRequestsOfAnExclusiveSessionWaitForEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, session.Pool{Exclusive: true})
		c.uses(1, wire.HTTP1, 1)
		c.hold = make(chan struct{})
		var group sync.WaitGroup
		var first, second, third result
		group.Go(func() { first = c.send(1, wire.HTTP1) })
		synctest.Wait()
		group.Go(func() { second = c.send(2, wire.HTTP1) })
		synctest.Wait()
		<-time.After(30 * time.Second)
		group.Go(func() { third = c.send(3, wire.HTTP1) })
		<-time.After(31 * time.Second)
		synctest.Wait()
		if second.failed == nil || second.failed.Reason != flow.ReasonBusy {
			t.Errorf("after a minute the second got %v", second)
		}
		close(c.hold)
		group.Wait()
		if first.body != "token-1" || third.body != "token-1" || !third.traced("wait for the request before it: 31s") {
			t.Errorf("%v, %v", first, third)
		}
		c.close()
	})
}

// A recovery ahead of the end is no second request of an exclusive session
// either.
func TestAnExclusiveSessionIsRecoveredBetweenRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Minute, expiresIn(60))
		var underWay atomic.Int64
		alone := func(next func(context.Context, *flow.Flow) error, pause time.Duration) func(context.Context, *flow.Flow) error {
			return func(ctx context.Context, f *flow.Flow) error {
				if underWay.Add(1) > 1 {
					t.Error("two requests at a time")
				}
				<-time.After(pause)
				defer underWay.Add(-1)
				return next(ctx, f)
			}
		}
		m.handle("/a", alone(m.use, 7*time.Second))
		m.handle("/login", alone(m.login, time.Second))
		p := m.start(t, nil, func(s *setup) {
			s.Identities = []session.Identity{{Name: "alice", Pool: session.Pool{Exclusive: true}}}
			s.Macros = []*macro.Macro{step(t, "login", "POST http://o/login HTTP/1.1\n\n")}
		})
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() { p.every(time.Second, 10*time.Minute) })
		}
		group.Wait()
		p.every(20*time.Second, 10*time.Minute) // the timer finds it at rest
		if c := p.engine.Counts(); c.Ahead < 20 || c.Dead > 0 {
			t.Errorf("counts %+v", c)
		}
		p.engine.Close()
	})
}
