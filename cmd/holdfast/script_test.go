package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// Scripts see a command holdfast, which is this program, and these:
//
//	origin [-key value …]     start a testenv.Origin with TLS; its URL is in $ORIGIN, its CA in $ORIGIN_CA
//	portal                    start a testenv.Portal; $PORTAL, $PORTAL_SSO, $PORTAL_CA
//	portal-end                its sessions end
//	example FILE [OLD NEW]…   copy a file of docs/examples; see examples_test.go
//	origin-stat FIELD [MIN [MAX]]   the origin's counter is between MIN and MAX
//	origin-do kill [NAME]|refuse|accept    change the origin
//	origin-do later DURATION  sessions end that much earlier
//	origin-do hold-answer PATH GATE | held GATE N | release GATE    make answers wait
//	origin-do applied ID N          a write was applied N times
//	words N FILE              write a list of N words
//	await FILE TEXT           wait until the file has the text
//	behind [-requests N] [-dead N] COMMAND…   run it behind Holdfast; see clients_test.go
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOLDFAST_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("no_proxy", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"origin": startOrigin, "origin-stat": originStat, "origin-do": originDo, "words": words, "await": await,
			"behind": behind, "portal": startPortal, "portal-end": endPortal, "example": example,
		},
		UpdateScripts: *update,
	})
}

// patience is how long a test waits for something that must happen, on a machine
// that does many other things.
const patience = 3 * time.Minute

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": main})
}

func startOrigin(ts *testscript.TestScript, neg bool, args []string) {
	c := new(clock)
	o := testenv.Origin{TLS: true, Clock: c.now}
	f := flag.NewFlagSet("origin", flag.ContinueOnError)
	f.DurationVar(&o.AccessTTL, "ttl", 0, "")
	f.IntVar(&o.DieAfter, "die-after", 0, "")
	rotate := f.Bool("rotate", false, "")
	plain := f.Bool("plain", false, "")
	f.BoolVar(&o.Gzip, "gzip", false, "")
	f.BoolVar(&o.HTTP2, "h2", false, "")
	ts.Check(f.Parse(args))
	o.TLS, o.Guarded = !*plain, guarded(ts)
	if *rotate {
		o.Rotation, o.ReuseRevokes = testenv.RotateAll, true
	}
	s, err := o.Start()
	ts.Check(err)
	ts.Defer(s.Close)
	path := ts.MkAbs("origin-ca.pem")
	ts.Check(os.WriteFile(path, s.CAPEM(), 0o600))
	ts.Setenv("ORIGIN", s.URL)
	ts.Setenv("ORIGIN_CA", path)
	origins.put(ts.Getenv("WORK"), s, c)
	// The rules of the scripts name the origin.
	if _, err := os.Stat(ts.MkAbs("rules.yaml")); err != nil {
		standard, err := os.ReadFile(clientRules)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("rules.yaml"), standard, 0o600))
	}
	for _, name := range []string{"rules.yaml", "rules.json", "text.yaml", "named.yaml", "foreign.yaml"} {
		if raw, err := os.ReadFile(ts.MkAbs(name)); err == nil {
			ts.Check(os.WriteFile(ts.MkAbs(name), []byte(strings.ReplaceAll(string(raw), "{{ORIGIN}}", s.URL)), 0o600))
		}
	}
}

func startPortal(ts *testscript.TestScript, neg bool, args []string) {
	p, err := testenv.Portal{}.Start()
	ts.Check(err)
	ts.Defer(p.Close)
	path := ts.MkAbs("portal-ca.pem")
	ts.Check(os.WriteFile(path, p.CAPEM(), 0o600))
	portals.Store(ts.Getenv("WORK"), p)
	ts.Setenv("PORTAL", p.URL)
	ts.Setenv("PORTAL_SSO", p.SSO)
	ts.Setenv("PORTAL_CA", path)
}

func originStat(ts *testscript.TestScript, neg bool, args []string) {
	stats := origins.get(ts).Stats()
	field := reflect.ValueOf(stats.Counts).FieldByName(args[0])
	if !field.IsValid() {
		ts.Fatalf("the origin counts no %s", args[0])
	}
	low, high := bound(ts, stats, args, 1), 0
	if high = low; len(args) > 2 {
		high = bound(ts, stats, args, 2)
	}
	if got := int(field.Int()); got < low || got > high {
		ts.Fatalf("%s is %d; want %d to %d (%+v)", args[0], got, low, high, stats.Counts)
	}
}

// bound is a number, or FIELD+N with another counter.
func bound(ts *testscript.TestScript, stats testenv.Stats, args []string, i int) int {
	name, plus, _ := strings.Cut(args[i], "+")
	if n, err := strconv.Atoi(name); err == nil {
		return n
	}
	field := reflect.ValueOf(stats.Counts).FieldByName(name)
	if !field.IsValid() {
		ts.Fatalf("the origin counts no %s", name)
	}
	n, _ := strconv.Atoi(plus)
	return int(field.Int()) + n
}

func originDo(ts *testscript.TestScript, neg bool, args []string) {
	s, arg := origins.get(ts), append(args[1:], "", "")
	switch args[0] {
	case "kill":
		s.Kill(arg[0])
	case "refuse":
		ts.Check(s.Refuse(true))
	case "accept":
		ts.Check(s.Refuse(false))
	case "hold-answer":
		s.HoldAnswer(arg[0], arg[1])
	case "release":
		s.Release(arg[0])
	case "later":
		by, err := time.ParseDuration(arg[0])
		ts.Check(err)
		origins.later(ts, by)
	case "held":
		n, err := strconv.Atoi(arg[1])
		ts.Check(err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ts.Check(s.WaitHeld(ctx, arg[0], n))
	case "applied":
		n, err := strconv.Atoi(arg[1])
		ts.Check(err)
		if got := s.Applied(arg[0]); got != n {
			ts.Fatalf("%s was applied %d times; want %d", arg[0], got, n)
		}
	default:
		ts.Fatalf("the origin cannot %s", args[0])
	}
}

func words(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "word%d\n", i)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o600))
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		raw, _ := os.ReadFile(ts.MkAbs(args[0]))
		if strings.Contains(string(raw), args[1]) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s does not have %q:\n%s", args[0], args[1], raw)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
