package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// What the demonstration consists of.
const (
	demoSession = 3 * time.Second
	demoLength  = 15 * time.Second
	demoWorkers = 8
	demoPause   = 4 * time.Millisecond // between two requests of a worker
)

// demoRules is a whole configuration, as a tester would write it.
const demoRules = `
variables: {SHOP: %q}
identities:
  emily: {variables: {NAME: emilys, PASSWORD: emilyspass}}
macros:
  - name: refresh
    steps:
      - request: |
          POST {{SHOP}}/auth/refresh HTTP/1.1
          Content-Type: application/json

          {"refreshToken":"{{REFRESH}}"}
        extract: &tokens
          - {token_name: ACCESS,  source: {type: JSON, path: accessToken}}
          - {token_name: REFRESH, source: {type: JSON, path: refreshToken}}
        expect: 'resp.code.eq:200'
  - name: login
    steps:
      - request: |
          POST {{SHOP}}/auth/login HTTP/1.1
          Content-Type: application/json

          {"username":"{{NAME}}","password":"{{PASSWORD}}"}
        extract: *tokens
        expect: 'resp.code.eq:200'
rules:
  - name: shop
    scope: {pattern: "127.0.0.1", target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: [refresh, login]
    token_updates:
      - token_name: ACCESS
        source: {type: JSON, path: accessToken}
        target: {type: RequestHeader, name: Authorization}
`

func demoCommand() *cobra.Command {
	var plain, asJSON bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: a shop with 3-second sessions, a client, and the proxy between them",
		Long: `See it work: a shop whose sessions live for three seconds, eight workers that
know nothing of sessions, and Holdfast between them. It ends after 15 seconds or
on Ctrl-C, with the verdict. --plain does the same without Holdfast, with a token
taken once at the start as a tester without it would.`,
		Example: "  holdfast demo\n  holdfast demo --plain",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return demo(cmd, plain, asJSON) },
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "the same without Holdfast, for contrast")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON instead of the live line")
	return cmd
}

func demo(cmd *cobra.Command, plain, asJSON bool) error {
	// A shop that said when its sessions end would be met dead by nobody.
	shop, err := testenv.Origin{TLS: true, AccessTTL: demoSession, HideExpiry: true, Rotation: testenv.RotateAll, ReuseRevokes: true}.Start()
	if err != nil {
		return err
	}
	defer shop.Close()
	d := &demonstration{shop: shop, out: cmd.OutOrStdout(), quiet: asJSON}
	ctx, cancel := context.WithTimeout(cmd.Context(), demoLength)
	defer cancel()
	if plain {
		err = d.withoutHoldfast(ctx)
	} else {
		err = d.withHoldfast(ctx, cmd)
	}
	if err != nil {
		return err
	}
	return d.conclude(cmd, asJSON)
}

// demonstration is one run of the demo.
type demonstration struct {
	shop     *testenv.Server
	out      io.Writer
	quiet    bool
	holdfast *holdfast.Holdfast // nil without

	requests, dead, failed atomic.Uint64
}

func (d *demonstration) withHoldfast(ctx context.Context, cmd *cobra.Command) error {
	file, _, err := config.Parse("demo", fmt.Appendf(nil, demoRules, d.shop.URL), config.Options{})
	if err != nil {
		return fmt.Errorf("internal error: the demonstration's rules do not load: %w", err)
	}
	home, err := os.MkdirTemp("", "holdfast-demo-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	block, _ := pem.Decode(d.shop.CAPEM())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	warn := cmd.ErrOrStderr()
	d.holdfast, err = holdfast.New(holdfast.Config{File: file, Home: home, Roots: []*x509.Certificate{root},
		Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}}, Warn: func(s string) { fmt.Fprintln(warn, s) }})
	if err != nil {
		return err
	}
	defer d.holdfast.Close()
	serving, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.holdfast.Run(serving) }()
	proxy := &url.URL{Scheme: "http", Host: d.holdfast.Addr()}
	d.say("A shop with %s sessions, Holdfast, and %d workers that know nothing of sessions.\n", demoSession, demoWorkers)
	d.work(ctx, &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: demoWorkers,
		TLSClientConfig: &tls.Config{RootCAs: d.holdfast.CA().Pool()}}, "")
	stop()
	return <-served
}

func (d *demonstration) withoutHoldfast(ctx context.Context) error {
	token, err := d.loginOnce()
	if err != nil {
		return err
	}
	d.say("A shop with %s sessions, and %d workers with a token taken once. No Holdfast.\n", demoSession, demoWorkers)
	d.work(ctx, &http.Transport{MaxIdleConnsPerHost: demoWorkers, TLSClientConfig: &tls.Config{RootCAs: d.shop.Pool()}}, token)
	return nil
}

// work sends requests from all workers until ctx ends, and shows how it goes.
func (d *demonstration) work(ctx context.Context, transport *http.Transport, token string) {
	defer transport.CloseIdleConnections()
	var workers sync.WaitGroup
	for range demoWorkers {
		workers.Go(func() { d.worker(ctx, &http.Client{Transport: transport}, token) })
	}
	tty := false
	if f, ok := d.out.(*os.File); ok {
		tty = term.IsTerminal(int(f.Fd()))
	}
	period := time.Second
	if tty {
		period = 200 * time.Millisecond
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for began := time.Now(); ; {
		select {
		case <-ticker.C:
			d.line(tty, time.Since(began))
			continue
		case <-ctx.Done():
		}
		workers.Wait()
		d.line(tty, time.Since(began))
		if tty {
			d.say("\n")
		}
		return
	}
}

func (d *demonstration) worker(ctx context.Context, client *http.Client, token string) {
	pause := time.NewTicker(demoPause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		req, err := http.NewRequest("GET", d.shop.URL+"/auth/me", nil) // without ctx: what was begun is ended
		if err != nil {
			return
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		d.requests.Add(1)
		if err != nil {
			d.failed.Add(1)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			d.dead.Add(1)
		}
	}
}

// line is the live line.
func (d *demonstration) line(tty bool, elapsed time.Duration) {
	begin, end := "", "\n"
	if tty {
		begin, end = "\r\x1b[K", ""
	}
	added := ""
	if d.holdfast != nil {
		added = fmt.Sprintf("   added latency %s", d.holdfast.Totals().Added.Round(time.Microsecond))
	}
	stats := d.shop.Stats()
	d.say("%s%4.1fs   requests %6d   logins and refreshes %2d   dead answers the client saw %4d%s%s",
		begin, elapsed.Seconds(), d.requests.Load(), stats.Logins+stats.Refreshes, d.dead.Load(), added, end)
}

func (d *demonstration) say(format string, args ...any) {
	if !d.quiet {
		fmt.Fprintf(d.out, format, args...)
	}
}
