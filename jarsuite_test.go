package holdfast_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// cookieParser answers as the server of the http-state suite does, byte for
// byte: a request for /cookie-parser?CASE with the case's lines, every other
// one with the Cookie line that it came with.
type cookieParser struct {
	net.Listener
	cases map[string][]string // Set-Cookie lines, as they stand in the file
	conns sync.WaitGroup
}

func startCookieParser(t *testing.T) *cookieParser {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cookieParser{Listener: ln, cases: make(map[string][]string)}
	p.conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); p.conns.Wait() })
	return p
}

func (p *cookieParser) serve(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if r.URL.Path != "/cookie-parser" {
		line := strings.Join(r.Header["Cookie"], " AND ")
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
		return
	}
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n", strings.Join(p.cases[r.URL.RawQuery], ""))
}

// read finds the case's lines and where the next request goes to.
func (p *cookieParser) read(t *testing.T, name, file string) (next string) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	next = "/cookie-parser-result?" + name
	for line := range strings.Lines(string(src)) {
		line = strings.TrimRight(line, "\r\n")
		field, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(field) {
		case "set-cookie":
			p.cases[name] = append(p.cases[name], line+"\r\n")
		case "location":
			next = strings.TrimSpace(value)
		}
	}
	return next
}

// published finds the suite; it is not part of the repository.
func published(t *testing.T) string {
	t.Helper()
	root := os.Getenv("HOLDFAST_SUITES")
	if root == "" {
		root = filepath.Join("..", "shared", "suites")
	}
	dir := filepath.Join(root, "http-state", "parser")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("in CI the http-state suite must be here: %v", err)
		}
		t.Skipf("the http-state suite is not here (%v); HOLDFAST_SUITES names the directory that holds it", err)
	}
	return dir
}

// A client without a jar, behind Holdfast, is to the origin what RFC 6265bis
// wants of a browser. The deviations from the suite, which is RFC 6265's, are
// those of package jar, each with its section.
func TestThePublishedCookieSuiteThroughTheProxy(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(published(t), "*-test"))
	if err != nil || len(files) < 200 {
		t.Fatalf("found %d cases, want 200 at least: %v", len(files), err)
	}
	table, err := os.ReadFile("jar/testdata/http-state.tsv")
	if err != nil {
		t.Fatal(err)
	}
	deviations := make(map[string]string)
	for line := range strings.Lines(string(table)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(f) == 3 {
			deviations[f[0]] = f[1]
		}
	}
	origin := startCookieParser(t)
	type suiteCase struct{ name, next, want string }
	var cases []suiteCase
	rules := "resolve: [{hosts: [\"*.example.org\"], address: \"" + origin.Addr().String() + "\"}]\n" + jarRule + "identities:\n"
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), "-test")
		switch {
		case name == "0002" || name == "comma0006" || name == "comma0007": // live until August 2019
			continue
		case strings.HasPrefix(name, "disabled-"): // by the suite's author
			continue
		}
		expected, err := os.ReadFile(strings.TrimSuffix(file, "-test") + "-expected")
		if err != nil {
			t.Fatal(err)
		}
		c := suiteCase{name: name, next: origin.read(t, name, file)}
		if want, sent := strings.CutPrefix(strings.TrimRight(string(expected), "\r\n"), "Cookie: "); sent {
			c.want = want
		}
		if want, ok := deviations[name]; ok {
			c.want = want
		}
		cases = append(cases, c)
		rules += "  t" + name + ":\n" // each case has a jar of its own
	}
	w := newWorld(t, testenv.Origin{}, rules)
	for _, c := range cases {
		base, _ := url.Parse("http://home.example.org:8888/cookie-parser?" + c.name)
		next, err := base.Parse(c.next)
		if err != nil {
			t.Fatal(err)
		}
		w.getAs("t"+c.name, base.String())
		if got := w.getAs("t"+c.name, next.String()); got != c.want {
			t.Errorf("%s: the origin got %q, want %q", c.name, got, c.want)
		}
	}
	if t.Logf("%d cases, %d deviations in the table", len(cases), len(deviations)); len(cases) < 215 {
		t.Errorf("%d cases; some are missing", len(cases))
	}
}

// jarRule sends the jar's cookies with every request.
const jarRule = `
rules:
  - name: jar
    scope: {urls: all}
    actions: [{use_cookies: {}}]
`

// getAs is what a plain-text answer says to an identity.
func (w *world) getAs(identity, url string) string {
	w.t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(identity+":")))
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := readAllOf(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		w.t.Errorf("%s: %d %s, %v", url, resp.StatusCode, raw, err)
	}
	return raw
}
