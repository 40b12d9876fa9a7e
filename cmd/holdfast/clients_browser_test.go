package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// TestABrowserStaysLoggedIn drives Chromium through what a page does: fetch,
// uploads, redirects, images, server-sent events, WebSockets and a service
// worker, while each session dies after a few requests.
func TestABrowserStaysLoggedIn(t *testing.T) {
	for _, tt := range []struct {
		name     string
		h2       bool
		front    bool // the proxy is spoken to by TLS
		trust    func(t *testing.T, home, user string) []chromedp.ExecAllocatorOption
		protocol string
	}{
		{"HTTP/1.1, the certificate in its database", false, false, trustDatabase, "http/1.1"},
		{"HTTP/2, the certificate by its key", true, false, trustKey, "h2"},
		{"HTTP/1.1 in tunnels by HTTP/2", false, true, trustDatabase, "http/1.1"},
		{"HTTP/2 in tunnels by HTTP/2", true, true, trustDatabase, "h2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			origin, err := testenv.Origin{TLS: true, HTTP2: tt.h2, DieAfter: 7, Guarded: pages()}.Start()
			if err != nil {
				t.Fatal(err)
			}
			defer origin.Close()
			dir := t.TempDir()
			home, user := filepath.Join(dir, "home"), profile(t)
			address, end := serveHere(t, origin, home)
			connections := func() int { return 0 }
			if tt.front {
				address, connections = relay(t, strings.TrimPrefix(address, "http://"))
				address = "https://" + address
			}
			options := append(chromium(address, user), tt.trust(t, home, user)...)

			got := browse(t, origin.URL+"/guarded/browser.html", options)
			want := map[string]string{
				"fetches": "30 of 30", "upload": "6 of 6", "form": "welcome", "redirects": "true abcdefghijkl", "image": "12x7",
				"events":  "event 1 event 2 event 3 event 4 event 5 event 6",
				"sockets": "01234567", "worker": "worker of alice", "protocol": tt.protocol,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what the page could do (-want +got):\n%s", diff)
			}
			if n := connections(); n > 10 { // by HTTP/1 each tunnel needs its own: some 15
				t.Errorf("%d connections to the proxy", n)
			}
			if verdict := end(); !strings.Contains(verdict, "session held") || !strings.Contains(verdict, " 0 dead answers reached the client") {
				t.Errorf("the verdict is %q", verdict)
			}
			if stats := origin.Stats(); stats.Died < 8 || stats.Replaced > 0 || stats.FailedLogins > 0 {
				t.Errorf("the origin saw %+v; want at least 8 sessions that died, and none replaced", stats.Counts)
			}
		})
	}
}

// serveHere runs holdfast serve in this process. end stops it and returns what
// it said.
func serveHere(t *testing.T, origin *testenv.Server, home string) (address string, end func() string) {
	t.Helper()
	rules, err := os.ReadFile(clientRules)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"origin.pem": string(origin.CAPEM()),
		"rules.yaml": strings.ReplaceAll(string(rules), "{{ORIGIN}}", origin.URL),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	out, to := io.Pipe()
	var said bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer to.Close()
		execute(ctx, []string{"serve", "--home", home, "--listen", "127.0.0.1:0", "-c", filepath.Join(dir, "rules.yaml"),
			"--upstream-ca", filepath.Join(dir, "origin.pem")}, terminal{strings.NewReader(""), to, &said})
	}()
	lines := bufio.NewScanner(out)
	lines.Scan()
	address = strings.TrimSpace(strings.TrimPrefix(lines.Text(), "proxy"))
	go io.Copy(io.Discard, out) // until the command ends
	end = func() string {
		cancel()
		<-done
		return said.String()
	}
	if address == "" {
		t.Fatal(end())
	}
	return address, end
}

// relay hands bytes on to an address, and counts the connections that bring
// some.
func relay(t *testing.T, to string) (address string, connections func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var used atomic.Int64
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer client.Close()
				stop := context.AfterFunc(t.Context(), func() { client.Close() })
				defer stop()
				first := make([]byte, 1)
				if _, err := client.Read(first); err != nil {
					return
				}
				used.Add(1)
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer server.Close()
				server.Write(first)
				wg.Go(func() {
					io.Copy(server, client)
					server.Close()
				})
				io.Copy(client, server)
			})
		}
	})
	return ln.Addr().String(), func() int { return int(used.Load()) }
}

// profile is a directory for a user of the browser, whose last processes may
// still write into it when the browser has ended.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		began, err := time.Now(), os.RemoveAll(dir)
		for ; err != nil && time.Since(began) < patience; err = os.RemoveAll(dir) {
			<-time.After(10 * time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

// chromium is how Chromium is started, but for the certificate.
func chromium(proxy, user string) []chromedp.ExecAllocatorOption {
	return append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.UserDataDir(filepath.Join(user, "data")), chromedp.Env("HOME="+user),
		chromedp.ProxyServer(proxy), chromedp.Flag("proxy-bypass-list", "<-loopback>"))
}

// trustKey has Chromium except everything from errors that the authority's key
// has signed.
func trustKey(t *testing.T, home, _ string) []chromedp.ExecAllocatorOption {
	t.Helper()
	authority, err := ca.Open(home, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return []chromedp.ExecAllocatorOption{chromedp.Flag("ignore-certificate-errors-spki-list", authority.SPKI())}
}

// trustDatabase puts the root into the database of certificates of the
// browser's user, as a person does.
func trustDatabase(t *testing.T, home, user string) []chromedp.ExecAllocatorOption {
	t.Helper()
	db := filepath.Join(user, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-n", "holdfast", "-t", "C,,", "-i", rootFile(home)},
	} {
		if out, err := exec.Command("certutil", append([]string{"-d", "sql:" + db}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	return nil
}

// browse opens a page, has it do everything, and returns what it says.
func browse(t *testing.T, url string, options []chromedp.ExecAllocatorOption) map[string]string {
	t.Helper()
	all, cancel := context.WithTimeout(context.Background(), 2*patience) // each deed has a minute
	defer cancel()
	all, cancel = chromedp.NewExecAllocator(all, options...)
	defer cancel()
	ctx, cancel := chromedp.NewContext(all)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	got, err := chromedp.Run(ctx, chromedp.Evaluate[map[string]string](`all()`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), "page.png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Cancel(ctx); err != nil {
		t.Error(err)
	}
	return got
}
