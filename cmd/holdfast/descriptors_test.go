//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// said gathers what a process writes to standard error.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), what)
}

// few is how many descriptors a proxy has in these tests. Three quarters of those
// that it does not need for itself are for clients.
const (
	few     = 64
	clients = (few - 24) * 3 / 4
)

// scarce starts a proxy that has few descriptors.
func scarce(t *testing.T) (*url.URL, *said) {
	t.Helper()
	cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, few), binary(t), "serve",
		"--home", filepath.Join(t.TempDir(), "home"), "--listen", "127.0.0.1:0")
	stderr := new(said)
	cmd.Stderr = stderr
	return launch(t, cmd), stderr
}

// ask makes one request on a connection to the proxy, and returns its status.
func ask(conn net.Conn, url string) (int, error) {
	conn.SetDeadline(time.Now().Add(patience))
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0, err
	}
	if err := req.WriteProxy(conn); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func wantOK(t *testing.T, what string, conn net.Conn, url string) {
	t.Helper()
	if status, err := ask(conn, url); status != 200 || err != nil {
		t.Errorf("%s: status %d, %v", what, status, err)
	}
}

func connect(t *testing.T, address *url.URL) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func TestMoreClientsThanThereAreDescriptors(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer origin.Close()
	address, stderr := scarce(t)
	first := connect(t, address)
	wantOK(t, "the first client", first, origin.URL)
	var others []net.Conn
	for range few {
		others = append(others, connect(t, address))
	}
	until(t, "that is said", func() bool { return stderr.count("connections are open, the most there may be") == 1 })
	for range 3 {
		wantOK(t, "the first client, among many", first, origin.URL)
	}
	late := connect(t, address)
	for _, conn := range others {
		conn.Close()
	}
	wantOK(t, "one that had to wait", late, origin.URL)
	if n := stderr.count("connections are open"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

func TestNoDescriptorIsLeft(t *testing.T) {
	release := make(chan struct{})
	held := make(chan struct{}, few)
	origin := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			held <- struct{}{}
			<-release
		}
	}))
	defer origin.Close()
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo() // before the origin is closed, which waits for its handlers
	address, stderr := scarce(t)
	said := func() bool { return stderr.count("no further connection can be accepted: ") == 1 }
	type answer struct {
		status int
		err    error
	}
	answers := make(chan answer, few)
	// Each client that asks takes two descriptors, its own and the one to the
	// origin. One after the other, until an answer says that there was none for
	// the origin: had they all come at once, all of them might have been
	// accepted before the first dial, and the dials alone would have suffered.
	asked, refused := 0, answer{}
	for refused == (answer{}) && !said() {
		asked++
		conn := connect(t, address)
		go func() {
			status, err := ask(conn, origin.URL+"/hold")
			answers <- answer{status, err}
		}()
		tick := time.NewTicker(5 * time.Millisecond)
		for waiting := true; waiting; {
			select {
			case <-held:
				waiting = false
			case refused = <-answers:
				waiting = false
			case <-tick.C:
				waiting = !said()
			}
		}
		tick.Stop()
	}
	if refused != (answer{}) && refused != (answer{status: 502}) {
		t.Fatalf("client %d was answered %+v; want 502", asked, refused)
	}
	// All of them are fewer clients than there may be: the last ones fail for
	// want of a descriptor, not for the limit.
	idle := 0
	for ; asked+idle < clients-2 && !said(); idle++ {
		connect(t, address)
	}
	until(t, "a connection cannot be accepted, and that is said", said)
	letGo()
	count := map[int]int{refused.status: 1}
	for n := asked - count[502]; n > 0; n-- {
		a := <-answers
		if a.err != nil {
			t.Error(a.err)
		}
		count[a.status]++
	}
	if count[200] == 0 || count[200]+count[502] != asked {
		t.Errorf("answers by status: %v; want those that got a descriptor answered, and the others told", count)
	}
	wantOK(t, "a client later", connect(t, address), origin.URL)
	if n := stderr.count("no further connection"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}
