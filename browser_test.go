package holdfast_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// socketPage opens a WebSocket, says two things on it, and when the origin
// closes it opens another. What it saw is posted to the page's own server.
const socketPage = `<!doctype html><title>socket</title><script>
const seen = [];
let closes = 0;
function tell(line) { seen.push(line); }
function open() {
  const s = new WebSocket("SOCKET");
  s.onopen = () => { tell("open " + s.extensions.split(";")[0]); s.send("hello"); };
  s.onmessage = m => {
    tell("message " + m.data.length);
    if (m.data.length == 5) s.send("x".repeat(50000));
    else fetch("/kill", {method: "POST"});
  };
  s.onclose = c => {
    tell("close " + c.code);
    if (++closes < 3) open(); else fetch("/seen", {method: "POST", body: seen.join("\n")});
  };
}
fetch("ORIGIN/status", {mode: "no-cors", credentials: "include"}).finally(open);
</script>`

// A browser compresses, masks and checks everything; it has no token, and the
// page knows nothing of a login.
func TestABrowsersWebSocketIsKeptLoggedIn(t *testing.T) {
	browserSocket(t, testenv.Origin{TLS: true})
}

// A browser that has spoken HTTP/2 with an origin opens WebSockets in it, where
// that is offered.
func TestABrowsersWebSocketByHTTP2(t *testing.T) {
	if !withConnect(t) {
		return
	}
	var streams atomic.Int32
	browserSocket(t, testenv.Origin{TLS: true, HTTP2: true, Observe: func(r *http.Request) {
		if r.Method == http.MethodConnect && r.Header.Get(":protocol") == "websocket" {
			streams.Add(1)
		}
	}})
	if n := streams.Load(); n != 3 {
		t.Errorf("%d WebSockets came by HTTP/2, want 3", n)
	}
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

func browserSocket(t *testing.T, o testenv.Origin) {
	t.Helper()
	w := socketWorld(t, o, "check_type: {type: StatusCode, value: [401]}, close_codes: [4401]")
	seen := make(chan string, 1)
	page := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			rw.Header().Set("Content-Type", "text/html")
			io.WriteString(rw, strings.NewReplacer("SOCKET", "wss"+strings.TrimPrefix(w.origin.URL, "https")+"/ws", "ORIGIN", w.origin.URL).Replace(socketPage))
		case "/kill":
			w.origin.KillAll()
		case "/seen":
			raw, _ := io.ReadAll(r.Body)
			seen <- string(raw)
		}
	}))
	defer page.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	browser := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--no-first-run", "--user-data-dir="+profile(t), "--ignore-certificate-errors-spki-list="+w.h.CA().SPKI(),
		"--proxy-server=http://"+w.h.Addr(), "--proxy-bypass-list=<-loopback>", strings.Replace(page.URL, "127.0.0.1", "localhost", 1)) // which no rule covers
	var output syncBuffer
	browser.Stdout, browser.Stderr = &output, &output
	browser.WaitDelay = time.Minute // its children write into the directory until they end
	if err := browser.Start(); err != nil {
		t.Fatalf("%v (.ci/tools installs it)", err)
	}
	defer browser.Wait()
	defer cancel()
	var got string
	select {
	case got = <-seen:
	case <-ctx.Done():
		t.Fatalf("the page did not report; the browser said:\n%s", output.String())
	}
	life := "open permessage-deflate\nmessage 5\nmessage 50000\nclose 4401\n"
	if got+"\n" != strings.Repeat(life, 3) {
		t.Errorf("the page saw:\n%s", got)
	}
	if s := w.origin.Stats(); s.Logins != 3 || s.DeadAnswers != 0 {
		t.Errorf("%d logins, %d dead answers; want 3 and none", s.Logins, s.DeadAnswers)
	}
}
