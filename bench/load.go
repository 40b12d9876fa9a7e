package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A client drives one connection, or one after the other. One goroutine uses
// it at a time.
type client interface {
	// exchange does one operation (a batch of them over HTTP/2) and records
	// each. After an error, the next call connects again.
	exchange(rec *recorder) error
	// batch is the number of operations in one exchange.
	batch() int
	// deadline bounds all reads and writes from now on.
	deadline(t time.Time)
	close()
}

// A recorder gathers what one client saw in one phase.
type recorder struct {
	latencies []time.Duration // of good operations
	first     []time.Duration // to the head of the response; only for downloads
	bytes     int64           // of bodies
	failed    int
	firstErr  error
}

func (r *recorder) ok(start time.Time, bytes int64) {
	r.latencies = append(r.latencies, time.Since(start))
	r.bytes += bytes
}

func (r *recorder) fail(err error) {
	r.failed++
	if r.firstErr == nil {
		r.firstErr = err
	}
}

func (r *recorder) add(o *recorder) {
	r.latencies = append(r.latencies, o.latencies...)
	r.first = append(r.first, o.first...)
	r.bytes += o.bytes
	r.failed += o.failed
	if r.firstErr == nil {
		r.firstErr = o.firstErr
	}
}

// A phase bounds a stretch of load: whichever limit is reached first ends it.
type phase struct {
	ops int // operations in all; a batch that does not fit is not begun
	// duration ends it for each client that has begun an exchange: on a machine
	// that has no time for a client until then, it still makes one. 0: no limit
	// but grace.
	duration time.Duration
	grace    time.Duration // how long an operation may outlast duration
	// interval is the least time between the starts of two exchanges of one
	// client; 0: the next starts when the last is complete. A client that is
	// late does not catch up.
	interval time.Duration
}

// maxFailuresInRow ends a client's phase: a proxy which refuses everything
// should not be asked a hundred thousand times.
const maxFailuresInRow = 20

// run drives all clients at once, each in a closed loop, and returns what they
// saw and how long it took.
func (p phase) run(clients []client) (recorder, time.Duration) {
	var left atomic.Int64
	left.Store(int64(p.ops))
	recs := make([]recorder, len(clients))
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			first := p.interval * time.Duration(i) / time.Duration(len(clients))
			p.loop(c, &recs[i], &left, start, first)
		}()
	}
	wg.Wait()
	took := time.Since(start)
	var sum recorder
	for i := range recs {
		sum.add(&recs[i])
	}
	return sum, took
}

func (p phase) loop(c client, rec *recorder, left *atomic.Int64, start time.Time, first time.Duration) {
	c.deadline(start.Add(p.duration + p.grace))
	next := start.Add(first)
	for n, inRow := 0, 0; inRow < maxFailuresInRow; n++ {
		if n > 0 && p.duration > 0 && time.Since(start) >= p.duration {
			return
		}
		if p.duration == 0 && time.Since(start) >= p.grace {
			return
		}
		if left.Add(-int64(c.batch())) < 0 {
			return
		}
		if p.interval > 0 {
			time.Sleep(time.Until(next))
			next = later(time.Now(), next.Add(p.interval))
		}
		if err := c.exchange(rec); err != nil {
			rec.fail(err)
			inRow++
			continue
		}
		inRow = 0
	}
}

// A work is one kind of traffic.
type work struct {
	name, title string
	unit        string // what CPU time is divided by: request, connection or MB
	secure      bool   // CONNECT and TLS, else absolute form
	h2          bool
	streams     int // HTTP/2 requests at once on a connection
	path        string
	size        int64  // expected bytes of the body
	conns       int    // at once; 0: the setting
	fresh       bool   // a new connection for every request
	hosts       int    // each connection to another host name, once
	tunnels     int    // idle tunnels to hold, after one request each
	crowd       int    // idle connections to hold beside those that ask
	named       bool   // runs only when it is named: it takes long
	against     string // the reference's work to compare with; "": this one
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// works lists every work in the order in which it runs.
func works(s settings) []work {
	small := work{unit: "request", secure: true, path: pathSmall, size: 1000}
	vary := func(name, title string, change func(w *work)) work {
		w := small
		w.name, w.title = name, title
		change(&w)
		return w
	}
	return []work{
		vary("plain", "plain HTTP, 1 KB, keep-alive", func(w *work) { w.secure = false }),
		vary("https", "intercepted HTTPS, 1 KB, keep-alive", func(w *work) {}),
		vary("html", "intercepted HTTPS, 30 KB of HTML, keep-alive", func(w *work) {
			w.path, w.size = pathPage, 30_000
		}),
		vary("h2", "intercepted HTTP/2, 1 KB, one request at a time on each connection", func(w *work) {
			w.h2, w.streams, w.against = true, 1, "https"
		}),
		vary("h2m", "intercepted HTTP/2, 1 KB, 4 connections with 8 requests at once", func(w *work) {
			w.h2, w.streams, w.conns, w.against = true, 8, 4, "https"
		}),
		vary("conn", "new client connection for every request (CONNECT, TLS, 1 KB)", func(w *work) {
			w.unit, w.fresh = "connection", true
		}),
		vary("hosts", fmt.Sprintf("%d host names, one connection to each, none seen before", s.Hosts), func(w *work) {
			w.unit, w.fresh, w.hosts = "connection", true, s.Hosts
		}),
		vary("big", fmt.Sprintf("intercepted download of %d MB, one connection", s.MB), func(w *work) {
			w.unit, w.conns = "MB", 1
			w.path, w.size = fmt.Sprintf("%s%d", pathBig, s.MB), int64(s.MB)*1_000_000
		}),
		vary("idle", fmt.Sprintf("%d idle intercepted tunnels", s.Tunnels), func(w *work) {
			w.unit, w.tunnels = "connection", s.Tunnels
		}),
		vary("crowd", fmt.Sprintf("%d idle intercepted tunnels, and %d that ask for %v", s.CrowdIdle, s.CrowdActive, s.CrowdTime), func(w *work) {
			w.crowd, w.conns, w.named = s.CrowdIdle, s.CrowdActive, true
		}),
	}
}
