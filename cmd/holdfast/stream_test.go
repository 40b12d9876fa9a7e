package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

const (
	streamSize = 1 << 30
	// maxMemory is the peak that a proxy may have after a gigabyte each way.
	maxMemory = 64 << 20
)

// binary builds the command as users have it: without the race detector, whose
// memory would be measured.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// serving starts the command and returns its process, its proxy address, and a
// client behind it.
func serving(t *testing.T, origin *testenv.Server, args ...string) (pid int, client *http.Client) {
	t.Helper()
	dir := t.TempDir()
	pem := filepath.Join(dir, "origin.pem")
	if err := os.WriteFile(pem, origin.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home")
	cmd := exec.Command(binary(t), append([]string{"serve", "--home", home, "--listen", "127.0.0.1:0", "--upstream-ca", pem}, args...)...)
	cmd.Stderr = os.Stderr
	address := launch(t, cmd)
	root, err := os.ReadFile(filepath.Join(home, "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	transport := &http.Transport{Proxy: http.ProxyURL(address), TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return cmd.Process.Pid, &http.Client{Transport: transport}
}

// launch starts a command that serves, until the test ends, and returns its
// proxy address.
func launch(t *testing.T, cmd *exec.Cmd) *url.URL {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(strings.TrimSpace(strings.TrimPrefix(line, "proxy")))
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// peak is the greatest memory a process has had, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("the system does not tell the peak memory of a process")
	return 0
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestAGigabyteEachWayTakesLittleMemory(t *testing.T) {
	origin, err := testenv.Origin{TLS: true}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	// A rule in scope that judges bodies, so that the engine is in the way.
	if err := os.WriteFile(rules, []byte(strings.ReplaceAll(`
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"alice\",\"password\":\"alicepass\"}"
rules:
  - name: api
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: ResponseContains, value: "signed out"}}
    reauth_macro: login
    token_updates:
      - token_name: T
        source: {type: JSON, path: access_token}
        target: {type: RequestHeader, name: Authorization}
`, "{{ORIGIN}}", origin.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	pid, client := serving(t, origin, "-c", rules)

	resp, err := client.Get(origin.URL + "/big?size=" + strconv.Itoa(streamSize))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if n != streamSize || err != nil {
		t.Errorf("downloaded %d bytes, %v; want %d", n, err, streamSize)
	}
	t.Logf("peak memory after the download: %d MB", peak(t, pid)>>20)

	req, err := http.NewRequest("POST", origin.URL+"/sink", io.LimitReader(zeros{}, streamSize))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = streamSize
	resp, err = client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(answer), strconv.Itoa(streamSize)) {
		t.Errorf("the upload was answered %d %s", resp.StatusCode, answer)
	}
	if got := peak(t, pid); got > maxMemory {
		t.Errorf("peak memory %d MB; want at most %d", got>>20, maxMemory>>20)
	} else {
		t.Logf("peak memory after the upload: %d MB", got>>20)
	}
}

func TestTheFirstByteLeavesBeforeTheLastHasArrived(t *testing.T) {
	origin, err := testenv.Origin{TLS: true}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	_, client := serving(t, origin)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", origin.URL+"/stream?events=2&gate=g", nil)
	if err != nil {
		t.Fatal(err)
	}
	origin.Release("g.1")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	for i := 0; events.Scan(); {
		if strings.HasPrefix(events.Text(), "data:") {
			i++
			origin.Release("g." + strconv.Itoa(i+1)) // only now may the next one be sent
		}
		if i == 2 {
			return
		}
	}
	t.Error("the stream ended before its events had come", events.Err())
}
