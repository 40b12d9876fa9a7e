package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// TestABrowsersLoginBecomesAMacro has Chromium log in over two origins, with
// all that a browser sends besides, while macro record listens; the macro that
// comes of it is proved against the application.
func TestABrowsersLoginBecomesAMacro(t *testing.T) {
	portal, err := testenv.Portal{}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer portal.Close()
	dir := t.TempDir()
	home, roots, out := filepath.Join(dir, "home"), filepath.Join(dir, "portal.pem"), filepath.Join(dir, "portal.yaml")
	if err := os.WriteFile(roots, portal.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	stdout, to := io.Pipe()
	var said bytes.Buffer
	code := make(chan int, 1)
	go func() {
		defer to.Close()
		code <- execute(ctx, []string{"macro", "record", "-o", out, "--prove", "--home", home, "--listen", "127.0.0.1:0", "--upstream-ca", roots},
			terminal{strings.NewReader(""), to, &said})
	}()
	lines := bufio.NewScanner(stdout)
	lines.Scan()
	proxy := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "proxy"))
	go io.Copy(io.Discard, stdout) // until the command ends
	if proxy != "" {
		signInByBrowser(t, portal, append(chromium(proxy, profile(t)), trustKey(t, home, "")...))
	}
	interrupt()
	if c := <-code; c != 0 {
		t.Fatalf("exit code %d:\n%s", c, &said)
	}
	report := said.String()
	if n := portal.Logins("/sso"); n < 3 {
		t.Errorf("%d logins, want the browser's and two to prove the macro", n)
	}
	for _, want := range []string{"proved   it ran", "{{EXECUTION}}  step 2", "{{LT}}  step 2, FormField name lt", "{{CODE}}  step 3, RedirectURL param code"} {
		if !strings.Contains(report, want) {
			t.Errorf("%q is not in the report:\n%s", want, report)
		}
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "request: |"); n != 4 || strings.Contains(string(raw), "Sec-") {
		t.Errorf("the macro has %d steps:\n%s", n, raw)
	}
}

func signInByBrowser(t *testing.T, portal *testenv.PortalServer, options []chromedp.ExecAllocatorOption) {
	t.Helper()
	all, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, cancel = chromedp.NewExecAllocator(all, options...)
	defer cancel()
	ctx, cancel := chromedp.NewContext(all)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.Navigate(portal.URL+"/sso"),
		chromedp.SendKeys(chromedp.CSS("input[name=email]"), testenv.PortalUser),
		chromedp.SendKeys(chromedp.CSS("input[name=secret_word]"), testenv.PortalPassword),
		chromedp.Click(chromedp.CSS("button")))
	if err != nil {
		t.Error(err)
		return
	}
	if text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("p"))); err != nil || text != "Hello, alice" {
		t.Errorf("the browser sees %q, %v", text, err)
	}
	if err := chromedp.Cancel(ctx); err != nil {
		t.Error(err)
	}
}
