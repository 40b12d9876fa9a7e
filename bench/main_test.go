package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/leak"
)

// The test's own program is started as reference and splice, as the harness
// starts itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "reference" || os.Args[1] == "splice") {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	leak.Main(m)
}

// newTarget starts an origin, and a tunnel before it.
func newTarget(t *testing.T, through string) (*origin, *target) {
	t.Helper()
	o, err := startOrigin("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	tg := &target{plain: o.plain.Addr().String(), tls: o.secure.Addr().String(), next: new(atomic.Int64)}
	if through != direct {
		tun, err := startTunnel("127.0.0.1:0", through == "reference", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tun.close)
		tg.proxy = tun.listen.Addr().String()
	}
	return o, tg
}

func TestEveryWorkThroughTheTunnels(t *testing.T) {
	for _, through := range []string{direct, "splice", "reference"} {
		for _, w := range works(settings{MB: 3, Hosts: 4, Tunnels: 2, CrowdIdle: 2, CrowdActive: 3}) {
			if w.name == "plain" && through == "splice" {
				continue
			}
			t.Run(through+" "+w.name, func(t *testing.T) {
				o, tg := newTarget(t, through)
				if w.hosts > 0 {
					if runtime.GOOS != "linux" {
						return // other systems have one loopback address only
					}
					var err error
					if tg.hosts, err = o.hostAddrs(w.hosts); err != nil {
						t.Fatal(err)
					}
				}
				r := runner{settings: settings{Conns: 3}, origin: o}
				clients := r.clients(tg, w)
				for range 2 { // the second phase uses the connections of the first
					rec, _ := phase{ops: 24, grace: time.Minute}.run(clients)
					if rec.failed > 0 || len(rec.latencies) != 24 || rec.bytes != 24*w.size {
						t.Fatalf("%d good, %d failed, %d bytes: %v", len(rec.latencies), rec.failed, rec.bytes, rec.firstErr)
					}
				}
				for _, c := range clients {
					c.close()
				}
				if got := o.requests.Load(); got != 48 {
					t.Errorf("the origin saw %d requests, want 48", got)
				}
				if fresh := o.conns.Load() == 48; fresh != w.fresh {
					t.Errorf("%d connections at the origin", o.conns.Load())
				}
			})
		}
	}
}

func TestPacedLoadEndsByItself(t *testing.T) {
	_, tg := newTarget(t, direct)
	r := runner{settings: settings{Conns: 2, Rate: 1000, Ops: 6, Time: time.Minute, Warm: time.Minute}}
	w := works(settings{})[0]
	_, p := r.phases(w)
	if p.interval != 2*time.Millisecond {
		t.Errorf("interval %v", p.interval)
	}
	clients := r.clients(tg, w)
	rec, _ := p.run(clients)
	if len(rec.latencies) != 6 || rec.failed > 0 {
		t.Errorf("%d good, %d failed: %v", len(rec.latencies), rec.failed, rec.firstErr)
	}
	for _, c := range clients {
		c.close()
	}
}

func TestWrongAnswersAreFailures(t *testing.T) {
	_, tg := newTarget(t, "reference")
	for _, path := range []string{pathDenied, pathPrivate, "/nothing", pathPage, pathBig + "x"} {
		for _, h2 := range []bool{false, true} {
			w := work{secure: true, path: path, size: 1000, h2: h2, streams: 1, conns: 1}
			clients := (&runner{}).clients(tg, w)
			rec, _ := phase{ops: 100, grace: time.Minute}.run(clients)
			if len(rec.latencies) != 0 || rec.failed != maxFailuresInRow {
				t.Errorf("%s, h2 %v: %d good, %d failed", path, h2, len(rec.latencies), rec.failed)
			}
			clients[0].close()
		}
	}
}

func TestOriginKnowsTheToken(t *testing.T) {
	o, tg := newTarget(t, direct)
	w := work{path: pathPrivate, size: 1000, conns: 1}
	c := newClient1(tg, w)
	defer c.close()
	c.request = bytes.Replace(c.request, []byte("\r\n\r\n"), []byte("\r\nAuthorization: Bearer "+benchToken+"\r\n\r\n"), 1)
	rec, _ := phase{ops: 2, grace: time.Minute}.run([]client{c})
	if rec.failed > 0 || o.authorized.Load() != 2 {
		t.Fatalf("%v; %d authorized", rec.firstErr, o.authorized.Load())
	}
}

func TestTheWholeCommand(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // no /proc, no figures
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the parts are this program, with the race detector
	var out bytes.Buffer
	args := []string{"--quick", "--time", "20ms", "--warmup", "10ms", "--settle", "0s", "--no-pin", "--quiet", "--json",
		"--rounds", "2", "--only", "plain,https,idle,crowd", "--proxies", "direct,reference", "--conns", "2",
		"--crowd-idle", "40", "--crowd-active", "4", "--crowd-time", "20ms"}
	if err := dispatch(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	var rep report
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatal(err)
	}
	if rep.Version != reportVersion || len(rep.Rows) != 7 {
		t.Fatalf("version %d, %d rows:\n%s", rep.Version, len(rep.Rows), out.String())
	}
	for _, x := range rep.Rows {
		if len(x.Rounds) != 2 || x.Problem != "" {
			t.Errorf("%s %s: %d rounds, %s", x.Work, x.Proxy, len(x.Rounds), x.Problem)
		}
		if _, ok := x.Median[keyCPU]; ok != (x.Proxy == "reference" && x.Work != "idle") {
			t.Errorf("%s %s: CPU time %v", x.Work, x.Proxy, ok)
		}
	}
	var text strings.Builder
	if err := rep.writeText(&text, works(settings{CrowdIdle: 40, CrowdActive: 4})); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CPU µs/request", "requests/s", "MB/1,000 tunnels", "client and origin %", "×ref"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
}

func TestProblemsAreReported(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // no /proc, no figures
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	table := t.TempDir() + "/table.yaml"
	src := "proxies:\n" +
		"  - {name: ends, about: x, command: [sh, -c, 'echo broken configuration; exit 3']}\n" +
		"  - {name: absent, about: x, command: [no-such-program-here]}\n" +
		"  - {name: blind, about: x, injects: true, command: ['{bench}', splice, --listen, '127.0.0.1:{port}']}\n" +
		"  - {name: foreign, about: x, give_ca: true, ca: '{dir}/given-ca.pem', command: ['{bench}', reference, --listen, '127.0.0.1:{port}']}\n"
	if err := os.WriteFile(table, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"ends":    "broken configuration",
		"absent":  "no-such-program-here",
		"blind":   "the token was in 0 of",
		"foreign": "the certificate it shows",
	} {
		var out bytes.Buffer
		err := dispatch(t.Context(), []string{"--quick", "--time", "10ms", "--warmup", "10ms", "--no-pin", "--quiet",
			"--only", "https", "--table", table, "--proxies", name}, &out, io.Discard)
		if (err == nil) != (name == "absent") {
			t.Errorf("%s: error %v", name, err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: the report lacks %q:\n%s", name, want, out.String())
		}
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--only", "nonesuch"}, {"--proxies", "nonesuch"}, {"--conns", "0"}, {"--time", "1h"}, {"--settle", "-1s"},
		{"more"}, {"--table", "/no/such/file"}, {"--nonesuch"}, {"reference", "--listen", "nonsense"},
	} {
		if err := dispatch(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
