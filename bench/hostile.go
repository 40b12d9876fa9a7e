package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"
)

// A hostility is the measurement of one load.
type hostility struct {
	name         string
	loads        []string
	quiet, under []sample // with the load on the sink, and on the proxy
	failed       int
	firstErr     error
	peak         int64
	outcome      string
}

// The well-behaved client: requests per second, and how many of its
// connections are kept and new for every request.
const (
	goodRate  = 400
	goodKept  = 8
	goodFresh = 2
)

// allowed is how much longer the well-behaved client may wait at p99.
const allowed = 2.0

type hostileOptions struct {
	rounds  int
	time    time.Duration
	allTime time.Duration
	only    []string
	nopin   bool
}

func parseHostile(args []string, stderr io.Writer) (*hostileOptions, error) {
	o := &hostileOptions{}
	fs := flag.NewFlagSet("bench hostile", flag.ContinueOnError)
	fs.SetOutput(stderr)
	only := fs.String("only", "", "comma-separated `LOADS` (see --list); all is all of them at once; empty: each in turn, then all")
	list := fs.Bool("list", false, "list the loads, and end")
	fs.IntVar(&o.rounds, "rounds", 3, "rounds; figures are medians")
	fs.DurationVar(&o.time, "time", 5*time.Second, "length of one measurement")
	fs.DurationVar(&o.allTime, "all-time", 45*time.Second, "length of the measurement of all loads at once, which is made once")
	fs.BoolVar(&o.nopin, "no-pin", false, "do not keep the proxy and the harness on processors of their own")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *list {
		for _, l := range loads() {
			fmt.Fprintf(stderr, "%-14s %s\n", l.name, l.title)
		}
		return nil, flag.ErrHelp
	}
	if fs.NArg() > 0 || o.rounds < 1 || o.rounds > 100 || o.time <= 0 || o.time > time.Minute || o.allTime <= 0 || o.allTime > 10*time.Minute {
		return nil, errors.New("use --rounds 1 to 100, --time up to 1m, --all-time up to 10m, and no further words")
	}
	o.only = names(*only)
	return o, nil
}

// serveHostile runs one of the parts of runHostile.
func serveHostile(ctx context.Context, part string, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("bench "+part, flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", "127.0.0.1:0", "`ADDR` to listen on (sink)")
	to := fs.String("to", "", "`ADDR` that is attacked (attack)")
	plain := fs.String("plain", "", "`ADDR` of the origin (attack)")
	chosen := fs.String("loads", "", "comma-separated `LOADS` (attack)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if part == "sink" {
		return serveSink(ctx, *listen)
	}
	return runAttack(ctx, names(*chosen), *to, *plain, stdout)
}

// plan is what is measured, in order.
func (o *hostileOptions) plan() ([]*hostility, error) {
	var all []*hostility
	var every []string
	for _, l := range loads() {
		every = append(every, l.name)
		all = append(all, &hostility{name: l.name, loads: []string{l.name}})
	}
	all = append(all, &hostility{name: "all", loads: every})
	if len(o.only) == 0 {
		return all, nil
	}
	var chosen []*hostility
	for _, n := range o.only {
		i := slices.IndexFunc(all, func(h *hostility) bool { return h.name == n })
		if i < 0 {
			return nil, fmt.Errorf("no load called %q: there are %s, all", n, strings.Join(every, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// runHostile measures what a well-behaved client of holdfast notices of
// hostile ones.
func runHostile(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseHostile(args, stderr)
	if err != nil {
		return err
	}
	plan, err := o.plan()
	if err != nil {
		return err
	}
	r, spec, note, end, err := alone(ctx, "holdfast", o.nopin, stderr)
	if err != nil {
		return err
	}
	defer end()
	r.settings = settings{Conns: goodKept}
	fmt.Fprintf(stdout, "A well-behaved client (%d requests a second by TLS on kept connections and on new ones) next to hostile ones. %s.\n\n", goodRate, note)
	for _, h := range plan {
		if err := r.besiege(ctx, spec, h, o); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}
	return writeHostile(stdout, plan)
}

// besiege measures one load: in turn on the sink and on the proxy.
func (r *runner) besiege(ctx context.Context, spec *proxySpec, h *hostility, o *hostileOptions) error {
	pl := places{dir: r.dir, bench: r.bench, built: r.built[spec.Build], plain: r.origin.plain.Addr().String(), tls: r.origin.secure.Addr().String()}
	proxy, err := startProxy(ctx, spec, pl, r.pins)
	if err != nil {
		return err
	}
	defer proxy.stop()
	sink, err := startProxy(ctx, &proxySpec{Name: "sink", Command: []string{"{bench}", "sink", "--listen", "127.0.0.1:{port}"}}, pl, r.pins)
	if err != nil {
		return err
	}
	defer sink.stop()
	rounds, length := o.rounds, o.time
	if h.name == "all" {
		rounds, length = 1, o.allTime
	}
	for round := range rounds {
		fmt.Fprintf(r.progress, "round %d of %d: %s\n", round+1, rounds, h.name)
		s, _, err := r.good(ctx, h, proxy, sink.addr(), length)
		if err != nil {
			return err
		}
		h.quiet = append(h.quiet, s)
		resetPeak(proxy.cmd.Process.Pid)
		s, outcome, err := r.good(ctx, h, proxy, proxy.addr(), length)
		if err != nil {
			return err
		}
		h.under, h.outcome = append(h.under, s), outcome
		u, err := treeUsage(proxy.cmd.Process.Pid)
		if err != nil {
			return fmt.Errorf("the proxy ended: %w: %s", err, proxy.output())
		}
		h.peak = max(h.peak, u.peak)
	}
	return nil
}

// good measures the well-behaved client while the load is on an address.
func (r *runner) good(ctx context.Context, h *hostility, proxy *process, victim string, length time.Duration) (sample, string, error) {
	t := &target{proxy: proxy.addr(), plain: r.origin.plain.Addr().String(), tls: r.origin.secure.Addr().String(), next: new(atomic.Int64)}
	kept := work{secure: true, path: pathSmall, size: 1000, conns: goodKept}
	fresh := work{path: pathSmall, size: 1000, fresh: true, conns: goodFresh}
	clients := append(r.clients(t, kept), r.clients(t, fresh)...)
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	p := phase{ops: 1 << 30, grace: grace, interval: time.Second * time.Duration(len(clients)) / goodRate}
	p.duration = time.Second / 2
	p.run(clients) // warm
	stop, err := r.startAttack(ctx, h, victim, t.plain)
	if err != nil {
		return nil, "", err
	}
	p.duration = length
	rec, _ := p.run(clients)
	outcome, err := stop()
	if err != nil {
		return nil, "", err
	}
	if victim == proxy.addr() && rec.failed > 0 {
		h.failed += rec.failed
		h.firstErr = rec.firstErr
	}
	if len(rec.latencies) == 0 {
		return nil, "", fmt.Errorf("the well-behaved client got no answer: %w", rec.firstErr)
	}
	slices.Sort(rec.latencies)
	return sample{keyP50: millis(percentile(rec.latencies, 0.50)), keyP99: millis(percentile(rec.latencies, 0.99))}, outcome, nil
}

// startAttack starts the loads as a process that yields to the well-behaved
// client, waits until they are under way, and returns what ends them.
func (r *runner) startAttack(ctx context.Context, h *hostility, victim, plain string) (stop func() (string, error), err error) {
	argv := []string{"nice", "-n", "10", r.bench, "attack", "--to", victim, "--plain", plain, "--loads", strings.Join(h.loads, ",")}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil {
		cmd.Process.Kill()
		return nil, errors.Join(err, cmd.Wait())
	}
	return func() (string, error) {
		cmd.Process.Signal(syscall.SIGTERM) // one that has ended says so below
		outcome, err := lines.ReadString('\n')
		return strings.TrimSpace(outcome), errors.Join(err, cmd.Wait())
	}, nil
}

// writeHostile prints the table, and returns an error when a promise is not kept.
func writeHostile(w io.Writer, plan []*hostility) error {
	tw := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "load\tp50 ms\tp99 ms\tp50 under it\tp99 under it\tp99 ratio\tpeak MB\tfailed\t")
	var bad []string
	of := func(all []sample, key string) float64 {
		var v []float64
		for _, s := range all {
			v = append(v, s[key])
		}
		return median(v)
	}
	for _, h := range plan {
		ratio := of(h.under, keyP99) / of(h.quiet, keyP99)
		fmt.Fprintf(tw, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%d\t\n", h.name, of(h.quiet, keyP50), of(h.quiet, keyP99),
			of(h.under, keyP50), of(h.under, keyP99), ratio, megabytes(h.peak), h.failed)
		if ratio > allowed {
			bad = append(bad, fmt.Sprintf("%s: p99 is %.1f times the quiet one", h.name, ratio))
		}
		if h.failed > 0 {
			bad = append(bad, fmt.Sprintf("%s: %d requests of the well-behaved client failed, one with: %v", h.name, h.failed, h.firstErr))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nWhat became of the hostile connections, in the last round:")
	for _, h := range plan {
		fmt.Fprintf(w, "  %-14s %s\n", h.name, h.outcome)
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}
