package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		if err != flag.ErrHelp {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

// dispatch runs one of the parts that are processes of their own, or the
// whole comparison.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "origin", "reference", "splice":
			return serve(ctx, args[0], args[1:], stdout, stderr)
		case "sink", "attack":
			return serveHostile(ctx, args[0], args[1:], stdout, stderr)
		case "deaths":
			return runDeaths(ctx, args[1:], stdout, stderr)
		case "fleet":
			return runFleet(ctx, args[1:], stdout, stderr)
		case "hostile":
			return runHostile(ctx, args[1:], stdout, stderr)
		}
	}
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	return o.run(ctx, stdout, stderr)
}

// serve runs a part until it is told to end.
func serve(ctx context.Context, part string, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("bench "+part, flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", "127.0.0.1:0", "`ADDR` to listen on")
	ca := fs.String("ca", "", "write the certificate of the authority to `FILE` (reference)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if part == "origin" {
		o, err := startOrigin(*listen)
		if err != nil {
			return err
		}
		defer o.close()
		fmt.Fprintf(stdout, "origin: https://%s http://%s\n", o.secure.Addr(), o.plain.Addr())
		<-ctx.Done()
		return nil
	}
	t, err := startTunnel(*listen, part == "reference", *ca)
	if err != nil {
		return err
	}
	defer t.close()
	fmt.Fprintf(stdout, "%s: listening on %s\n", part, t.listen.Addr())
	<-ctx.Done()
	return nil
}

// options are the flags of the comparison.
type options struct {
	settings
	only, proxies []string
	table         string
	json, nopin   bool
	quiet, list   bool
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	only := fs.String("only", "", "comma-separated `WORKS` to run (see --list); empty: all")
	proxies := fs.String("proxies", "", "comma-separated `NAMES` of the table (see --list); empty: the defaults")
	quick := fs.Bool("quick", false, "one short round of each, unless other flags say more: does it work? Figures are worth little")
	fs.StringVar(&o.table, "table", "", "`FILE` with more proxies, in the form of bench/proxies.yaml")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	fs.BoolVar(&o.nopin, "no-pin", false, "do not keep proxies and harness on processors of their own")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress on standard error")
	fs.BoolVar(&o.list, "list", false, "list works and proxies, and end")
	fs.IntVar(&o.Rounds, "rounds", 3, "rounds; figures are medians")
	fs.IntVar(&o.Conns, "conns", 32, "connections at once")
	fs.IntVar(&o.Rate, "rate", 0, "requests per second in works with kept connections; 0: as many as answers allow")
	fs.DurationVar(&o.Time, "time", 2*time.Second, "length of one measurement")
	fs.DurationVar(&o.Warm, "warmup", 500*time.Millisecond, "load before each measurement")
	fs.IntVar(&o.Ops, "requests", 1_000_000, "most requests in one measurement")
	fs.IntVar(&o.MaxFresh, "new-conns", 5000, "most new connections in one measurement")
	fs.IntVar(&o.MB, "mb", 100, "size of a download in MB")
	fs.IntVar(&o.Hosts, "hosts", 500, "host names")
	fs.IntVar(&o.Tunnels, "tunnels", 1000, "idle tunnels")
	fs.DurationVar(&o.Settle, "settle", 3*time.Second, "how long tunnels are idle before memory is read")
	fs.IntVar(&o.CrowdIdle, "crowd-idle", 10_000, "idle connections of a crowd")
	fs.IntVar(&o.CrowdActive, "crowd-active", 1000, "connections of a crowd that ask")
	fs.DurationVar(&o.CrowdTime, "crowd-time", time.Minute, "how long they do")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag; --help lists them", fs.Arg(0))
	}
	o.only, o.proxies = names(*only), names(*proxies)
	if *quick {
		if err := o.shorten(fs); err != nil {
			return nil, err
		}
	}
	return o, o.check()
}

// shorten sets what --quick stands for, except flags that were given.
func (o *options) shorten(fs *flag.FlagSet) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{
		"rounds": "1", "time": "300ms", "warmup": "100ms", "settle": "1s",
		"hosts": "50", "tunnels": "100", "crowd-idle": "500", "crowd-active": "50", "crowd-time": "1s", "mb": "20", "new-conns": "500",
	} {
		if !given[name] {
			if err := fs.Set(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// names splits a comma-separated list; an empty one is nil.
func names(s string) []string {
	var out []string
	for n := range strings.SplitSeq(s, ",") {
		if n = strings.TrimSpace(n); n != "" {
			out = append(out, n)
		}
	}
	return out
}

func (o *options) check() error {
	for _, b := range []struct {
		flag          string
		value, lo, hi int
	}{
		{"rounds", o.Rounds, 1, 100},
		{"conns", o.Conns, 1, 1000},
		{"rate", o.Rate, 0, 1_000_000},
		{"requests", o.Ops, 1, 10_000_000},
		{"new-conns", o.MaxFresh, 1, 20_000},
		{"mb", o.MB, 1, maxMegabytes},
		{"hosts", o.Hosts, 1, 5000},
		{"tunnels", o.Tunnels, 1, 5000},
		{"crowd-idle", o.CrowdIdle, 1, 15_000},
		{"crowd-active", o.CrowdActive, 1, 5000},
	} {
		if b.value < b.lo || b.value > b.hi {
			return fmt.Errorf("--%s %d: use %d to %d", b.flag, b.value, b.lo, b.hi)
		}
	}
	if o.Time <= 0 || o.Time > time.Minute || o.Warm <= 0 || o.Warm > time.Minute || o.Settle < 0 || o.Settle > time.Minute {
		return fmt.Errorf("--time, --warmup and --settle: use more than 0 and at most 1m")
	}
	if o.CrowdTime <= 0 || o.CrowdTime > 4*time.Minute { // proxies close connections that are idle for five
		return fmt.Errorf("--crowd-time %v: use more than 0 and at most 4m", o.CrowdTime)
	}
	return nil
}

// chosenWorks picks works by name, in the order in which they are defined.
func (o *options) chosenWorks() ([]work, error) {
	all := works(o.settings)
	if len(o.only) == 0 {
		return slices.DeleteFunc(all, func(w work) bool { return w.named && !o.list }), nil
	}
	want := map[string]bool{}
	for _, n := range o.only {
		want[n] = true
	}
	for _, w := range all {
		if want[w.name] && w.against != "" {
			want[w.against] = true // its ratios need it
		}
	}
	var chosen []work
	var known []string
	for _, w := range all {
		known = append(known, w.name)
		if want[w.name] {
			chosen = append(chosen, w)
			delete(want, w.name)
		}
	}
	for n := range want {
		return nil, fmt.Errorf("no work called %q: there are %s", n, strings.Join(known, ", "))
	}
	return chosen, nil
}

func (o *options) run(ctx context.Context, stdout, stderr io.Writer) error {
	table, err := loadTable(o.table)
	if err != nil {
		return err
	}
	list, err := o.chosenWorks()
	if err != nil {
		return err
	}
	specs, err := choose(table, o.proxies)
	if err != nil {
		return err
	}
	if o.list {
		return printLists(stdout, table, list)
	}
	if err := o.checkFiles(list); err != nil {
		return err
	}
	rep, err := o.measure(ctx, specs, list, stderr)
	if err != nil {
		return err
	}
	if o.json {
		err = rep.writeJSON(stdout)
	} else {
		err = rep.writeText(stdout, list)
	}
	if err != nil {
		return err
	}
	return rep.verdict(ctx)
}

func printLists(w io.Writer, table []proxySpec, list []work) error {
	fmt.Fprintln(w, "works:")
	for _, wk := range list {
		fmt.Fprintf(w, "  %-20s %s\n", wk.name, wk.title)
	}
	fmt.Fprintln(w, "proxies (* by default):")
	for _, p := range table {
		mark := " "
		if p.Default {
			mark = "*"
		}
		fmt.Fprintf(w, "%s %-20s %s\n", mark, p.Name, p.About)
	}
	return nil
}

// measure prepares origin, directory and processors, and runs everything.
func (o *options) measure(ctx context.Context, specs []proxySpec, list []work, stderr io.Writer) (*report, error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	org, err := startOrigin("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer org.close()
	r := &runner{settings: o.settings, origin: org, dir: dir, bench: self, built: map[string]string{}, progress: stderr}
	if o.quiet {
		r.progress = io.Discard
	}
	for _, w := range list {
		if w.hosts > 0 {
			if r.hosts, err = org.hostAddrs(w.hosts); err != nil {
				return nil, err
			}
		}
	}
	rep := &report{Version: reportVersion, Settings: o.settings, Machine: machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Note: "not pinned: --no-pin",
	}}
	failed := r.buildAll(ctx, specs) // with all processors, before pinning
	if !o.nopin {
		r.pins, rep.Machine.Note = pin()
		rep.Machine.Pins = r.pins
	}
	rep.Rows = r.run(ctx, specs, list, failed)
	return rep, nil
}

// verdict is an error when a figure is missing or answers were wrong. What a
// proxy cannot do at all (see unable) is no error.
func (r *report) verdict(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; the figures are of what was done")
	}
	n := 0
	for _, x := range r.Rows {
		if x.Problem != "" && !x.skipped {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d rows have a problem, named below their tables", n, len(r.Rows))
	}
	return nil
}
