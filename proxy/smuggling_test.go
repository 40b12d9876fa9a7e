package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

var update = flag.Bool("update", false, "write golden files anew")

type payload struct{ class, name, text string }

func loadPayloads(t testing.TB) []payload {
	t.Helper()
	files, err := filepath.Glob("testdata/smuggling/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []payload
	seen := map[string]bool{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		class := strings.TrimSuffix(filepath.Base(file), ".txt")
		for i, line := range strings.Split(string(raw), "\n") {
			if name, ok := strings.CutPrefix(line, "== "); ok {
				if seen[class+name] {
					t.Fatalf("%s:%d: %q twice", file, i+1, name)
				}
				seen[class+name] = true
				all = append(all, payload{class: class, name: name})
				continue
			}
			if line == "" {
				continue
			}
			text, err := unescape(strings.TrimPrefix(line, "> "))
			if err != nil || len(all) == 0 || !strings.HasPrefix(line, "> ") {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			all[len(all)-1].text += text
		}
	}
	if len(all) < 120 {
		t.Fatalf("only %d payloads", len(all))
	}
	return all
}

// TestSmuggling sends every payload under every policy to every reading.
func TestSmuggling(t *testing.T) {
	payloads := loadPayloads(t)
	golden := map[string][]string{}
	var mu sync.Mutex
	for _, policy := range []wire.Policy{wire.Strict, wire.Lenient, wire.Raw} {
		t.Run(policy.String(), func(t *testing.T) {
			for i, r := range readings() {
				t.Run(r.name, func(t *testing.T) {
					var group sync.WaitGroup
					slots := make(chan struct{}, 16)
					for _, p := range payloads {
						slots <- struct{}{}
						group.Go(func() {
							defer func() { <-slots }()
							fate := smuggle(t, policy, r, p)
							if i == 0 {
								mu.Lock()
								key := p.class + ": " + p.name
								golden[key] = append(golden[key], fate)
								mu.Unlock()
							}
						})
					}
					group.Wait()
				})
			}
		})
	}
	var b strings.Builder
	for _, p := range payloads {
		key := p.class + ": " + p.name
		fmt.Fprintf(&b, "%-16s %s\n", strings.Join(golden[key], " "), key)
	}
	const file = "testdata/smuggling/golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("what becomes of payloads (-golden +now; -update writes it):\n%s", diff)
	}
}

// A witness remembers the flows of one payload.
type witness struct {
	mu    sync.Mutex
	begun int
	ended []*flow.Flow
}

func (w *witness) stage(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		w.mu.Lock()
		w.begun++
		w.mu.Unlock()
		f.OnEnd(func(f *flow.Flow) {
			w.mu.Lock()
			w.ended = append(w.ended, f)
			w.mu.Unlock()
		})
		return next(ctx, f)
	}
}

// smuggle sends one payload and then another client's request, and returns what
// the sender of the payload was answered first.
func smuggle(t *testing.T, policy wire.Policy, r reading, p payload) string {
	t.Helper()
	where := fmt.Sprintf("%v, %s, %s: %s: ", policy, r.name, p.class, p.name)
	origin := startOddOrigin(t, r)
	defer origin.close()
	pool := upstream.New(upstream.Config{Policy: policy})
	defer pool.Close()
	var seen witness
	server := proxy.New(proxy.Config{Policy: policy, Handler: seen.stage(pool.Send)})
	ln := listen(t)
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), ln) }()
	defer func() {
		server.Close()
		if err := <-served; err != nil {
			t.Errorf("%s%v", where, err)
		}
		if len(seen.ended) != seen.begun {
			t.Errorf("%s%d flows began, %d ended", where, seen.begun, len(seen.ended))
		}
	}()
	w := &world{t: t, addr: ln.Addr().String()}
	host := authorityOf(origin.ln)

	conn := w.dial()
	if !strings.Contains(p.text, "{to}") {
		conn.Close()
		conn = w.tunnel(host)
	}
	defer conn.Close()
	write(t, conn, strings.NewReplacer("{host}", host, "{to}", "http://"+host).Replace(p.text))
	first := make([]byte, 1)
	if r.once { // whether the end or the answer comes first must not be chance
		conn.SetReadDeadline(time.Now().Add(4 * time.Second)) // few get none
		n, _ := conn.Read(first)
		first = first[:n]
		conn.SetReadDeadline(time.Now().Add(patience))
	} else {
		first = nil
	}
	conn.(*net.TCPConn).CloseWrite()
	raw, err := io.ReadAll(conn)
	raw = append(first, raw...)
	if isTimeout(err) {
		t.Errorf("%sthe connection hangs after %q", where, raw)
	}
	statuses, own := answersIn(raw)
	if forwarded := len(statuses) - own; forwarded > seen.begun && !strings.HasPrefix(p.text, "CONNECT") { // whose tunnel has answers of its own
		t.Errorf("%s%d requests were sent, %d answers came: %q", where, seen.begun, forwarded, raw)
	}

	victim := w.tunnel(host)
	defer victim.Close()
	write(t, victim, "GET /victim HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
	victim.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(victim); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200")) || !bytes.HasSuffix(got, []byte("\r\n\r\n/victim")) {
		t.Errorf("%sthe other client got %q, %v", where, got, err)
	}
	seen.alone(t, where, origin)
	if len(statuses) == 0 {
		return "none"
	}
	return statuses[0]
}

// alone checks that after an ambiguous flow nothing came on its connection.
func (w *witness) alone(t *testing.T, where string, origin *oddOrigin) {
	w.mu.Lock()
	defer w.mu.Unlock()
	origin.mu.Lock()
	defer origin.mu.Unlock()
	ambiguous := false
	for _, f := range w.ended {
		for _, e := range f.Trace.Events {
			ambiguous = ambiguous || strings.Contains(e.Detail, "ambiguous, so no connection")
		}
	}
	if !ambiguous {
		return
	}
	for _, raw := range origin.conns {
		if i := bytes.Index(raw.Bytes(), []byte("GET /victim ")); i > 0 {
			t.Errorf("%sanother request followed on the connection: %q", where, raw)
		}
	}
}

// answersIn lists the final answers in what a client read, and how many of
// them are the proxy's own.
func answersIn(raw []byte) (statuses []string, own int) {
	r := wire.NewReader(bytes.NewReader(raw), wire.Limits{})
	for {
		var head wire.Response
		if r.ReadResponse(&head) != nil {
			return statuses, own
		}
		if head.Status()/100 == 1 {
			continue
		}
		statuses = append(statuses, fmt.Sprint(head.Status()))
		if head.Has("Proxy-Status") {
			own++
		}
		framing, err := wire.ResponseFraming(&head, nil)
		if err != nil {
			return statuses, own
		}
		b := r.Body(framing)
		for err == nil {
			_, err = b.Next()
		}
		if !errors.Is(err, io.EOF) {
			return statuses, own
		}
	}
}
