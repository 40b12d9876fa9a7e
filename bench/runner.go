package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// Settings bound a run. They stand in the JSON report.
type settings struct {
	Rounds   int           `json:"rounds"`
	Conns    int           `json:"connections"`
	Time     time.Duration `json:"time_ns"`   // of one measurement
	Warm     time.Duration `json:"warmup_ns"` // before it
	Ops      int           `json:"max_operations"`
	Rate     int           `json:"requests_per_second"` // 0: as fast as answers come
	MB       int           `json:"download_mb"`
	Hosts    int           `json:"host_names"`
	Tunnels  int           `json:"idle_tunnels"`
	Settle   time.Duration `json:"settle_ns"` // tunnels idle before memory is read
	MaxFresh int           `json:"max_new_connections"`

	CrowdIdle   int           `json:"crowd_idle"`
	CrowdActive int           `json:"crowd_active"`
	CrowdTime   time.Duration `json:"crowd_time_ns"`
}

// Limits which are not settings.
const (
	grace       = 60 * time.Second // for operations under way when the time is up
	maxDownload = 8                // downloads in one measurement
	maxCrowdOps = 20_000_000       // requests of a crowd
)

// A runner measures proxies one after the other on the same work.
type runner struct {
	settings
	origin   *origin
	pins     pinning
	dir      string // temporary
	bench    string // this program
	built    map[string]string
	hosts    []string
	progress io.Writer
}

// A sample is one measurement of one proxy on one work: figures by key, see
// [columns].
type sample map[string]float64

// A row is what all rounds of one proxy on one work gave.
type row struct {
	Work    string   `json:"work"`
	Proxy   string   `json:"proxy"`
	Rounds  []sample `json:"rounds"`
	Median  sample   `json:"median,omitempty"`
	Ratio   sample   `json:"ratio_to_reference,omitempty"`
	Spread  float64  `json:"cpu_spread"`
	Failed  int      `json:"failed"`
	Problem string   `json:"problem,omitempty"`
	skipped bool     // not installed
	dead    bool     // gave no figure: not tried again
}

// buildAll compiles what the entries name and returns an error by entry.
func (r *runner) buildAll(ctx context.Context, specs []proxySpec) map[string]error {
	failed := map[string]error{}
	byPkg := map[string]error{}
	for i := range specs {
		pkg := specs[i].Build
		if pkg == "" {
			continue
		}
		if _, tried := byPkg[pkg]; !tried {
			out := filepath.Join(r.dir, "built-"+filepath.Base(pkg))
			byPkg[pkg] = build(ctx, pkg, out)
			r.built[pkg] = out
		}
		if err := byPkg[pkg]; err != nil {
			failed[specs[i].Name] = err
		}
	}
	return failed
}

// run measures every proxy on every work, round after round. The order of the
// proxies moves by one with each round and each work, so that none always
// runs on the warmest or the busiest machine.
func (r *runner) run(ctx context.Context, specs []proxySpec, list []work, failed map[string]error) []*row {
	var rows []*row
	index := map[[2]string]*row{}
	for _, w := range list {
		for i := range specs {
			if specs[i].does(w) {
				x := &row{Work: w.name, Proxy: specs[i].Name}
				if err := failed[x.Proxy]; err != nil {
					x.Problem, x.dead = err.Error(), true
				}
				rows = append(rows, x)
				index[[2]string{w.name, x.Proxy}] = x
			}
		}
	}
	for round := range r.Rounds {
		for wi, w := range list {
			for i := range specs {
				spec := &specs[(i+round+wi)%len(specs)]
				x := index[[2]string{w.name, spec.Name}]
				if x == nil || x.dead || ctx.Err() != nil {
					continue
				}
				fmt.Fprintf(r.progress, "round %d of %d: %-8s %s\n", round+1, r.Rounds, w.name, spec.Name)
				s, err := r.measure(ctx, spec, w)
				x.add(s, err)
			}
		}
	}
	for _, x := range rows {
		x.finish()
	}
	compare(rows, list)
	return rows
}

func (x *row) add(s sample, err error) {
	if err != nil && x.Problem == "" {
		x.Problem = err.Error()
		x.skipped = errors.As(err, new(unable))
	}
	x.dead = s == nil
	if s != nil {
		x.Rounds = append(x.Rounds, s)
		x.Failed += int(s["failed"])
	}
}

// finish computes the medians, figure by figure.
func (x *row) finish() {
	values := map[string][]float64{}
	for _, s := range x.Rounds {
		for k, v := range s {
			values[k] = append(values[k], v)
		}
	}
	x.Median = sample{}
	for k, v := range values {
		x.Median[k] = median(v)
	}
	x.Spread = spread(values[keyCPU])
}

// compare fills in the ratios to the reference.
func compare(rows []*row, list []work) {
	against := map[string]string{}
	for _, w := range list {
		against[w.name] = w.name
		if w.against != "" {
			against[w.name] = w.against
		}
	}
	find := func(name string) *row {
		i := slices.IndexFunc(rows, func(x *row) bool { return x.Work == name && x.Proxy == "reference" })
		if i < 0 {
			return nil
		}
		return rows[i]
	}
	for _, x := range rows {
		ref := find(against[x.Work])
		if ref == nil {
			continue
		}
		x.Ratio = sample{}
		for k, v := range x.Median {
			if base := ref.Median[k]; base > 0 && k != "failed" {
				x.Ratio[k] = v / base
			}
		}
	}
}

// measure runs one proxy as a fresh process on one work.
func (r *runner) measure(ctx context.Context, spec *proxySpec, w work) (sample, error) {
	t := &target{
		plain: r.origin.plain.Addr().String(),
		tls:   r.origin.secure.Addr().String(),
		hosts: r.hosts,
		next:  new(atomic.Int64),
	}
	pid := 0
	if spec.Name != direct {
		p, err := startProxy(ctx, spec, places{
			dir: r.dir, bench: r.bench, built: r.built[spec.Build], plain: t.plain, tls: t.tls,
		}, r.pins)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		t.proxy, pid = p.addr(), p.cmd.Process.Pid
		if w.secure {
			if err := p.checkLeaf(t); err != nil {
				return nil, err
			}
		}
	}
	m := &meter{pid: pid}
	if w.tunnels > 0 {
		return r.holdTunnels(ctx, m, t, w)
	}
	if w.crowd > 0 {
		return r.holdCrowd(ctx, m, t, w)
	}
	return r.drive(m, t, w, spec)
}

// drive warms up, then measures.
func (r *runner) drive(m *meter, t *target, w work, spec *proxySpec) (sample, error) {
	if err := m.begin(); err != nil {
		return nil, err
	}
	warm, measured := r.phases(w)
	clients := r.clients(t, w)
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	if w.hosts > 0 {
		// Warm by the address that is none of the names.
		plain := w
		plain.hosts = 0
		warmers := r.clients(t, plain)
		warm.run(warmers)
	} else if rec, _ := warm.run(clients); len(rec.latencies) == 0 {
		return nil, fmt.Errorf("no request succeeded: %w", rec.firstErr)
	}
	if err := m.start(); err != nil {
		return nil, err
	}
	requests, authorized := r.origin.requests.Load(), r.origin.authorized.Load()
	rec, took := measured.run(clients)
	s, err := m.stop(&rec, took, w)
	if err != nil {
		return s, err
	}
	requests, authorized = r.origin.requests.Load()-requests, r.origin.authorized.Load()-authorized
	good := int64(len(rec.latencies))
	switch {
	case rec.failed > 0:
		err = fmt.Errorf("%d of %d failed, the first with: %w", rec.failed, int64(rec.failed)+good, rec.firstErr)
	case requests < good:
		err = fmt.Errorf("the origin saw %d requests, the client %d answers: some came from a cache", requests, good)
	case spec.Injects && authorized < good:
		err = fmt.Errorf("the token was in %d of %d requests", authorized, good)
	}
	return s, err
}

// phases are the limits of warm-up and measurement.
func (r *runner) phases(w work) (warm, measured phase) {
	warm = phase{ops: r.Ops, duration: r.Warm, grace: grace}
	measured = phase{ops: r.Ops, duration: r.Time, grace: grace}
	if r.Rate > 0 && w.unit == "request" {
		conns := w.conns
		if conns == 0 {
			conns = r.Conns
		}
		measured.interval = time.Second * time.Duration(conns*max(1, w.streams)) / time.Duration(r.Rate)
		warm.interval = measured.interval
	}
	switch {
	case w.hosts > 0:
		warm.ops = 50
		measured = phase{ops: w.hosts, grace: grace}
	case w.fresh:
		warm.ops = 200
		measured.ops = r.MaxFresh
	case w.crowd > 0:
		measured.ops, measured.duration = maxCrowdOps, r.CrowdTime
	case w.unit == "MB":
		warm = phase{ops: 1, grace: grace}
		measured.ops = maxDownload
	}
	return warm, measured
}

func (r *runner) clients(t *target, w work) []client {
	n := w.conns
	if n == 0 {
		n = r.Conns
	}
	clients := make([]client, n)
	for i := range clients {
		if w.h2 {
			clients[i] = newClient2(t, w)
		} else {
			clients[i] = newClient1(t, w)
		}
	}
	return clients
}

// holdTunnels opens tunnels, makes one request in each, and reads how much
// memory they take once they have been idle for a while.
func (r *runner) holdTunnels(ctx context.Context, m *meter, t *target, w work) (sample, error) {
	if err := m.begin(); err != nil {
		return nil, err
	}
	one := phase{ops: 1, grace: grace}
	var clients []client
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	add := func(n int) error {
		more := make([]client, n)
		for i := range more {
			more[i] = newClient1(t, w)
			if rec, _ := one.run(more[i : i+1]); rec.failed > 0 {
				return fmt.Errorf("after %d tunnels: %w", len(clients)+i, rec.firstErr)
			}
		}
		clients = append(clients, more...)
		return nil
	}
	if err := add(1); err != nil {
		return nil, err
	}
	before, err := treeUsage(m.pid)
	if err != nil {
		return nil, err
	}
	if err := add(w.tunnels); err != nil {
		return nil, err
	}
	timer := time.NewTimer(r.Settle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	after, err := treeUsage(m.pid)
	if err != nil {
		return nil, err
	}
	s := sample{keyIdle: megabytes(m.idle), keyPeak: megabytes(after.peak)}
	s[keyTunnels] = megabytes(after.resident-before.resident) * 1000 / float64(w.tunnels)
	return s, nil
}

// A meter reads what proxy and harness use. Without a proxy, pid is 0.
type meter struct {
	pid          int
	idle         int64 // bytes resident before any load
	before, self time.Duration
}

// begin notes the memory before the load.
func (m *meter) begin() error {
	if m.pid == 0 {
		return nil
	}
	u, err := treeUsage(m.pid)
	m.idle = u.resident
	return err
}

// start notes the processor times.
func (m *meter) start() error {
	if m.pid != 0 {
		resetPeak(m.pid)
		u, err := treeUsage(m.pid)
		if err != nil {
			return err
		}
		m.before = u.cpu
	}
	self, err := cpuOf(os.Getpid())
	m.self = self.own
	return err
}

// stop turns what was used since start into figures per unit.
func (m *meter) stop(rec *recorder, took time.Duration, w work) (sample, error) {
	var u usage
	var err error
	if m.pid != 0 {
		if u, err = treeUsage(m.pid); err != nil {
			return nil, fmt.Errorf("the proxy ended under load: %w", err)
		}
	}
	self, err := cpuOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	units := float64(len(rec.latencies))
	if w.unit == "MB" {
		units = float64(rec.bytes) / 1e6
	}
	if units == 0 {
		return nil, fmt.Errorf("nothing succeeded: %w", rec.firstErr)
	}
	slices.Sort(rec.latencies)
	slices.Sort(rec.first)
	s := sample{
		keyRate:   units / took.Seconds(),
		keyP50:    millis(percentile(rec.latencies, 0.50)),
		keyP99:    millis(percentile(rec.latencies, 0.99)),
		keyP999:   millis(percentile(rec.latencies, 0.999)),
		keyClient: micros(self.own-m.self) / units,
		keyFailed: float64(rec.failed),
	}
	if len(rec.first) > 0 {
		s[keyFirst] = millis(percentile(rec.first, 0.5))
	}
	if m.pid != 0 {
		s[keyCPU] = micros(u.cpu-m.before) / units
		s[keyIdle], s[keyPeak] = megabytes(m.idle), megabytes(u.peak)
	}
	return s, nil
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }
func micros(d time.Duration) float64 { return float64(d) / 1e3 }
func megabytes(n int64) float64      { return float64(n) / (1 << 20) }

// alone makes a runner for one proxy of the table, which is built, and the origin
// beside it. end stops the origin and removes what the proxy wrote; note says how
// processes are pinned.
func alone(ctx context.Context, name string, nopin bool, progress io.Writer) (r *runner, spec *proxySpec, note string, end func(), err error) {
	table, err := loadTable("")
	if err != nil {
		return nil, nil, "", nil, err
	}
	specs, err := choose(table, []string{name})
	if err != nil {
		return nil, nil, "", nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, "", nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, nil, "", nil, err
	}
	org, err := startOrigin("127.0.0.1:0")
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, "", nil, err
	}
	end = func() { org.close(); os.RemoveAll(dir) }
	r = &runner{origin: org, dir: dir, bench: self, built: map[string]string{}, progress: progress}
	if failed := r.buildAll(ctx, specs); failed[name] != nil {
		end()
		return nil, nil, "", nil, failed[name]
	}
	note = "not pinned: --no-pin"
	if !nopin {
		r.pins, note = pin()
	}
	return r, &specs[0], note, end, nil
}
