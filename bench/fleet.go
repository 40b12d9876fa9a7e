//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fleetOptions are the flags of bench fleet.
type fleetOptions struct {
	nodes, conns, rate int
	every, time        time.Duration
	store, direct      string
	only               string
}

// The trials of bench fleet.
const (
	trialSteady  = "steady"
	trialFreeze  = "freeze"
	trialRestart = "restart"
)

// frozenFor is how long a node is stopped in the middle of a login: longer than
// the others wait for it.
const frozenFor = 15 * time.Second

func parseFleet(args []string, stderr io.Writer) (*fleetOptions, error) {
	o := &fleetOptions{}
	fs := flag.NewFlagSet("bench fleet", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.nodes, "nodes", 3, "nodes")
	fs.IntVar(&o.conns, "conns", 96, "connections, over all nodes")
	fs.IntVar(&o.rate, "rate", 600, "requests per second, of all connections")
	fs.DurationVar(&o.every, "every", time.Second, "time from one death of the session to the next")
	fs.DurationVar(&o.time, "time", time.Minute, "length of a trial")
	fs.StringVar(&o.store, "store", "", "postgres:// `DSN` of an empty schema; empty: a server of its own, which the trial restart needs")
	fs.StringVar(&o.direct, "listen-dsn", "", "with --store of a pooler: `DSN` past it")
	fs.StringVar(&o.only, "only", "", "one `TRIAL`: "+trialSteady+", "+trialFreeze+" or "+trialRestart)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	switch o.only {
	case "", trialSteady, trialFreeze, trialRestart:
	default:
		return nil, fmt.Errorf("there is no trial %q", o.only)
	}
	if fs.NArg() > 0 || o.nodes < 1 || o.nodes > 16 || o.conns < o.nodes || o.conns > 1000 || o.rate < 1 || o.rate > 100_000 || o.every < 10*time.Millisecond || o.time < time.Second || o.time > time.Hour {
		return nil, errors.New("use --nodes up to 16, --conns up to 1000, --rate up to 100000, --every from 10ms, --time 1s to 1h, and no further words")
	}
	return o, nil
}

// fleetRules are the configuration of a node.
const fleetRules = `
macros:
  - name: refresh
    steps:
      - request: |
          POST http://{plain}/refresh HTTP/1.1
          X-Node: NODE
          X-Refresh: {{refresh_token}}
          Content-Length: 0

        expect: 'resp.code.eq:200'
        extract: &tokens
          - {token_name: access_token, source: {type: JSON, path: access_token}}
          - {token_name: refresh_token, source: {type: JSON, path: refresh_token}}
  - name: login
    steps:
      - request: |
          POST http://{plain}/login HTTP/1.1
          X-Node: NODE
          Content-Length: 0

        expect: 'resp.code.eq:200'
        extract: *tokens
rules:
  - name: bench
    scope: {pattern: "127.0.0.1", target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: [refresh, login]
    token_updates:
      - {token_name: access_token, target: {type: RequestHeader, name: Authorization, template: "Bearer {{access_token}}"}}
`

// runFleet has a session die again and again under a load through several nodes
// on one database, and counts what clients and origin notice.
func runFleet(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseFleet(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	built := dir + "/holdfast"
	if err := build(ctx, "github.com/holdfast-proxy/holdfast/cmd/holdfast", built); err != nil {
		return err
	}
	trials := []string{trialSteady, trialFreeze, trialRestart}
	if o.only != "" {
		trials = []string{o.only}
	}
	for _, trial := range trials {
		if err := o.try(ctx, trial, dir, built, stdout, stderr); err != nil {
			return fmt.Errorf("%s: %w", trial, err)
		}
	}
	return nil
}

// try runs one trial with a server, an origin and nodes of its own.
func (o *fleetOptions) try(ctx context.Context, trial, dir, built string, stdout, stderr io.Writer) error {
	dsn := o.store
	var server *cluster
	if dsn == "" {
		var err error
		if server, err = startCluster(ctx); err != nil {
			return err
		}
		defer server.stop()
		dsn = server.dsn()
	} else if trial == trialRestart {
		return errors.New("a server that --store names is not restarted")
	}
	org, err := startOrigin("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer org.close()
	m := newRotor()
	org.setResponder(m.respond)
	var nodes []*process
	for i := range o.nodes {
		spec := &proxySpec{Name: "node" + strconv.Itoa(i),
			Files: map[string]string{
				"holdfast.yaml":  string(bytes.ReplaceAll([]byte(fleetRules), []byte("NODE"), []byte(strconv.Itoa(i)))),
				"home/store.key": string(bytes.Repeat([]byte("5a"), 32)) + "\n"},
			Command: []string{"{built}", "serve", "-c", "{dir}/holdfast.yaml", "--listen", "127.0.0.1:{port}", "--home", "{dir}/home", "--insecure-upstream", "--trace", "{dir}/trace", "--store", dsn, "--listen-dsn", o.direct}}
		p, err := startProxy(ctx, spec, places{dir: dir, built: built, plain: org.plain.Addr().String(), tls: org.secure.Addr().String()}, pinning{})
		if err != nil {
			return err
		}
		defer p.stop()
		nodes = append(nodes, p)
	}
	fmt.Fprintf(stderr, "%s: %d nodes, %s\n", trial, o.nodes, o.time)
	running, stop := context.WithTimeout(ctx, o.time)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { m.reap(running, o.every) })
	var note string
	var disturbed error
	group.Go(func() {
		select {
		case <-time.After(o.time / 3):
		case <-running.Done():
			return
		}
		switch trial {
		case trialFreeze:
			note = o.stopNode(running, m, nodes)
		case trialRestart:
			note, disturbed = "the database was restarted", server.restart(ctx)
		}
	})
	all, first := o.load(running, org, nodes)
	group.Wait()
	err = errors.Join(disturbed, o.tell(stdout, trial, note, all, m, first))
	if err != nil {
		var traces []string
		for _, p := range nodes {
			traces = append(traces, filepath.Join(p.places.dir, "trace"))
		}
		m.tellWrongs(stderr, traces)
		for i, p := range nodes {
			fmt.Fprintf(stderr, "node %d said:\n%s\n", i, p.output())
		}
	}
	return err
}

// stopNode stops the node that gets the next session, before it can read the
// answer, and has it go on when others have long followed it.
func (o *fleetOptions) stopNode(ctx context.Context, m *rotor, nodes []*process) (note string) {
	frozen := make(chan int, 1)
	m.freezeNext(func(node string) {
		if i, err := strconv.Atoi(node); err == nil && i < len(nodes) {
			_ = nodes[i].cmd.Process.Signal(syscall.SIGSTOP) // what comes of it shows
			frozen <- i
		}
	})
	select {
	case i := <-frozen:
		time.Sleep(frozenFor)
		m.goOn()
		_ = nodes[i].cmd.Process.Signal(syscall.SIGCONT)
		return fmt.Sprintf("node %d was stopped for %s in the middle of a recovery", i, frozenFor)
	case <-ctx.Done():
		return "no node was stopped"
	}
}

// load asks through all nodes, paced, until ctx ends.
func (o *fleetOptions) load(ctx context.Context, org *origin, nodes []*process) (all []asked, first error) {
	clients := make([]*mourner, o.conns)
	interval := time.Second * time.Duration(o.conns) / time.Duration(o.rate)
	start := time.Now()
	var group sync.WaitGroup
	for i := range clients {
		node := i % len(nodes)
		t := &target{plain: org.plain.Addr().String(), tls: org.secure.Addr().String(), proxy: nodes[node].addr(), next: new(atomic.Int64)}
		request := bytes.Replace(requestBytes("/account", t.tls), []byte("\r\n\r\n"), []byte("\r\nX-Node: "+strconv.Itoa(node)+"\r\n\r\n"), 1)
		c := &mourner{t: t, request: request}
		clients[i] = c
		group.Go(func() {
			next := start.Add(interval * time.Duration(i) / time.Duration(o.conns))
			for ctx.Err() == nil {
				time.Sleep(time.Until(next))
				next = later(time.Now(), next.Add(interval))
				c.ask()
			}
		})
	}
	group.Wait()
	for _, c := range clients {
		c.close()
		all = append(all, c.all...)
		if first == nil {
			first = c.err
		}
	}
	return all, first
}

// tell writes the figures; an error is a promise that was not kept.
func (o *fleetOptions) tell(w io.Writer, trial, note string, all []asked, m *rotor, first error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := map[fate]int{}
	slow := time.Duration(0)
	for _, a := range all {
		count[a.fate]++
		slow = max(slow, a.to.Sub(a.from))
	}
	got := m.logins + m.refreshes
	fmt.Fprintf(w, "%s: %d nodes, %d connections, a death every %s for %s", trial, o.nodes, o.conns, o.every, o.time)
	if note != "" {
		fmt.Fprintf(w, "; %s", note)
	}
	fmt.Fprintf(w, "\n\nrequests                    %d, the slowest %.1f ms\n", len(all), millis(slow))
	fmt.Fprintf(w, "deaths observed             %d\n", m.observed)
	fmt.Fprintf(w, "recoveries                  %d: the first, and %d; %d by refresh token\n", got, got-1, m.refreshes)
	fmt.Fprintf(w, "  while the session lived   %d\n", m.needless)
	fmt.Fprintf(w, "refresh tokens sent twice   %d\n", m.reused)
	fmt.Fprintf(w, "  good ones not used        %d\n", m.unused)
	if trial == trialFreeze {
		fmt.Fprintf(w, "  only the stopped node had %d\n", m.unheard)
	}
	fmt.Fprintf(w, "dead answers of the origin  %d\n", m.dead)
	fmt.Fprintf(w, "dead answers to clients     %d\n", count[fateDead])
	fmt.Fprintf(w, "failed requests             %d\n", count[fateFailed])
	spread, text := m.spread()
	fmt.Fprintf(w, "from a new session to its first use at a node: p50 %.1f ms, p99 %.1f ms\n%s\n", millis(percentile(spread, 0.5)), millis(percentile(spread, 0.99)), text)
	switch {
	case first != nil:
		return fmt.Errorf("a request failed: %w", first)
	case count[fateDead]+count[fateFailed] > 0:
		return errors.New("requests were lost, or answered by a dead session")
	case m.reused > 0:
		return errors.New("a refresh token was sent twice")
	case m.unused > 0:
		return errors.New("a good refresh token was lost")
	case m.needless > 0 || got-1 != m.observed:
		return errors.New("there were more or fewer recoveries than deaths")
	}
	return nil
}
