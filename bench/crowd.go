package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// openers is how many connections of a crowd are made at once.
const openers = 32

// spareFiles is what the harness opens besides the connections of clients:
// those that a proxy makes to the origin, if it keeps few idle ones, and files.
const spareFiles = 500

// checkFiles says what to do when a crowd needs more descriptors than there
// are. The limit is the hard one: Go's os package raises the soft one to it
// when a program starts.
func (o *options) checkFiles(list []work) error {
	limit, known := openFiles()
	for _, w := range list {
		need := w.crowd + 2*w.conns + spareFiles
		if w.crowd > 0 && known && uint64(need) > limit {
			return fmt.Errorf("%s needs %d open files, the limit is %d: raise it (as root: ulimit -n %d), or use a smaller --crowd-idle or --crowd-active",
				w.name, need, limit, 2*need)
		}
	}
	return nil
}

// holdCrowd opens idle connections and active ones, measures the active ones,
// and sees whether the idle ones still work.
func (r *runner) holdCrowd(ctx context.Context, m *meter, t *target, w work) (sample, error) {
	if err := m.begin(); err != nil {
		return nil, err
	}
	before, err := r.resident(m)
	if err != nil {
		return nil, err
	}
	idle, active := make([]client, w.crowd), r.clients(t, w)
	for i := range idle {
		idle[i] = newClient1(t, w)
	}
	defer func() {
		for _, c := range append(idle, active...) {
			c.close()
		}
	}()
	began := time.Now()
	if failed, err := askAll(ctx, append(idle[:len(idle):len(idle)], active...)); err != nil {
		return nil, fmt.Errorf("%d of %d connections could not be made, the first: %w", failed, len(idle)+len(active), err)
	}
	fmt.Fprintf(r.progress, "  %d connections made in %.1f s\n", len(idle)+len(active), time.Since(began).Seconds())
	_, measured := r.phases(w)
	if err := m.start(); err != nil {
		return nil, err
	}
	requests := r.origin.requests.Load()
	rec, took := measured.run(active)
	s, err := m.stop(&rec, took, w)
	if err != nil {
		return s, err
	}
	requests = r.origin.requests.Load() - requests
	s[keyHarness] = 100 * s[keyClient] * s[keyRate] / 1e6
	if m.pid != 0 {
		s[keyBusy] = 100 * s[keyCPU] * s[keyRate] / 1e6
		after, err := r.resident(m)
		if err != nil {
			return s, err
		}
		s[keyTunnels] = megabytes(after-before) * 1000 / float64(len(idle)+len(active))
	}
	good := int64(len(rec.latencies))
	if rec.failed > 0 {
		return s, fmt.Errorf("%d of %d failed, the first with: %w", rec.failed, int64(rec.failed)+good, rec.firstErr)
	}
	if requests < good {
		return s, fmt.Errorf("the origin saw %d requests, the clients %d answers: some came from a cache", requests, good)
	}
	if failed, err := askAll(ctx, idle); err != nil {
		s["failed"] += float64(failed)
		return s, fmt.Errorf("%d of %d idle connections did not work any more, the first: %w", failed, len(idle), err)
	}
	return s, nil
}

// resident is what the proxy holds in memory now; without a proxy 0.
func (r *runner) resident(m *meter) (int64, error) {
	if m.pid == 0 {
		return 0, nil
	}
	u, err := treeUsage(m.pid)
	return u.resident, err
}

// askAll makes one request on every connection, which connects those that are
// not yet, and returns how many failed and why the first did.
func askAll(ctx context.Context, clients []client) (failed int, first error) {
	var next atomic.Int64
	recs := make([]recorder, openers)
	var all sync.WaitGroup
	for i := range recs {
		rec := &recs[i]
		all.Add(1)
		go func() {
			defer all.Done()
			for rec.failed < maxFailuresInRow && ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(clients) {
					return
				}
				clients[n].deadline(time.Now().Add(grace))
				if err := clients[n].exchange(rec); err != nil {
					rec.fail(err)
				}
			}
		}()
	}
	all.Wait()
	var sum recorder
	for i := range recs {
		sum.add(&recs[i])
	}
	if sum.firstErr == nil {
		sum.firstErr = ctx.Err()
	}
	return sum.failed, sum.firstErr
}
