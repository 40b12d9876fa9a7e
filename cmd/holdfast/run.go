package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/session"
)

func runCommand() *cobra.Command {
	o := &options{entry: entryOptions{listen: []string{"127.0.0.1:0"}}, shares: true}
	var maxLost uint64
	var report string
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG…]",
		Short: "Run one command behind a proxy of its own and say whether the session was held",
		Long: `Run one command behind a proxy of its own and say whether the session was held.

The command finds the proxy in HTTP_PROXY, HTTPS_PROXY and ALL_PROXY (and their
lower-case forms), and the certificate in SSL_CERT_FILE, CURL_CA_BUNDLE,
REQUESTS_CA_BUNDLE, NODE_EXTRA_CA_CERTS and GIT_SSL_CAINFO. {proxy} in an
argument becomes the proxy's URL, for programs that want it as a flag, and for
those that never use a proxy from the environment towards 127.0.0.1.

The exit code is the command's own, or 3 when more than --max-lost answers were
those of a dead session or of none. Requests that failed although there was
a session, such as an answer that breaks off, are counted in the verdict and
change nothing.`,
		Example: "  holdfast run -c shop.yaml -- curl -s https://shop.example/account\n  holdfast run -c shop.yaml --tool ffuf -- ffuf -x {proxy} -u https://shop.example/FUZZ -w words.txt",
		Args:    needs("a command to run, behind --", cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, o, args, maxLost, report)
		},
	}
	o.add(cmd)
	o.history.add(cmd)
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&o.tool, "tool", "", "`label` of the command's requests, for rules that are for some tools only")
	cmd.Flags().Uint64Var(&maxLost, "max-lost", 0, "dead or refused answers that are still no failure")
	cmd.Flags().StringVar(&report, "report", "", "write the verdict as JSON to `file` (- is standard output)")
	return cmd
}

func run(cmd *cobra.Command, o *options, args []string, maxLost uint64, report string) error {
	h, closeAll, err := o.start(cmd)
	if err != nil {
		return err
	}
	defer closeAll()
	defer h.Close()
	dir, err := os.MkdirTemp("", "holdfast-run-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	env, err := environment(h, dir)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- h.Run(ctx) }()

	began := time.Now()
	code, err := child(cmd, args, env, h.ProxyURL())
	stop()
	if serveErr := <-served; err == nil && serveErr != nil {
		err = serveErr
	}
	if err != nil {
		return err
	}
	h.Close() // so that everything is counted
	totals := h.Totals()
	lost := totals.Lost + totals.Refused
	fmt.Fprintln(cmd.ErrOrStderr(), verdict(totals))
	if totals.Requests == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "holdfast: no request came through the proxy; if the command sent some, give it the proxy as a flag: {proxy} becomes its URL")
	}
	if report != "" {
		if err := writeReport(cmd, report, newReport(args, code, began, totals, h.Sessions(), lost <= maxLost)); err != nil {
			return err
		}
	}
	if err := o.exportCookies(cmd, h); err != nil {
		return err
	}
	switch {
	case lost > maxLost:
		return exitCode(exitLost)
	case code != 0:
		return exitCode(code)
	}
	return nil
}

// environment is ours with the proxy and the certificate in it.
func environment(h *holdfast.Holdfast, dir string) ([]string, error) {
	all, err := bundle(dir, h.CA().RootPEM())
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, h.CA().RootPEM(), 0o600); err != nil {
		return nil, err
	}
	set := map[string]string{"NO_PROXY": "", "no_proxy": "", "NODE_EXTRA_CA_CERTS": root}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		set[name] = h.ProxyURL()
		set[strings.ToLower(name)] = h.ProxyURL()
	}
	for _, name := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"} {
		set[name] = all
	}
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if _, ours := set[name]; !ours {
			env = append(env, kv)
		}
	}
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	return env, nil
}

// child runs the command and returns its exit code. An interrupt reaches the
// command too, being in the same process group; we wait for it to end.
func child(cmd *cobra.Command, args, env []string, proxy string) (code int, err error) {
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "{proxy}", proxy)
	}
	c := exec.Command(args[0], args[1:]...)
	c.Env, c.Stdin, c.Stdout, c.Stderr = env, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := c.Start(); err != nil {
		return 0, fmt.Errorf("the command cannot be run: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-cmd.Context().Done():
			c.Process.Signal(syscall.SIGTERM)
		case <-ended:
		}
	}()
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil // as a shell does
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// verdict is the closing line.
func verdict(t holdfast.Totals) string {
	held := "session held"
	if t.Lost+t.Refused > 0 {
		held = "SESSION LOST"
	}
	s := fmt.Sprintf("holdfast: %s: %d requests, %d dead answers reached the client, %d logins, %d requests sent while dead and sent again",
		held, t.Requests, t.Lost, t.Logins, t.Absorbed)
	if t.Refused > 0 {
		s += fmt.Sprintf(", %d refused for want of a session", t.Refused)
	}
	if t.Failed > 0 {
		s += fmt.Sprintf(", %d failed for other reasons", t.Failed)
	}
	if t.Missed > 0 {
		s += fmt.Sprintf(" (%d trace lines were lost to a slow writer)", t.Missed)
	}
	return s
}

// reportFile is the shape of --report, version 1.
type reportFile struct {
	Version  int              `json:"v"`
	Command  string           `json:"command"` // its name alone: arguments may hold secrets
	ExitCode int              `json:"exit_code"`
	Held     bool             `json:"held"`
	Began    time.Time        `json:"began"`
	Seconds  float64          `json:"seconds"`
	Totals   holdfast.Totals  `json:"totals"`
	Sessions []session.Status `json:"sessions"`
}

func newReport(args []string, code int, began time.Time, t holdfast.Totals, s []session.Status, held bool) reportFile {
	return reportFile{Version: 1, Command: filepath.Base(args[0]), ExitCode: code, Held: held,
		Began: began, Seconds: time.Since(began).Seconds(), Totals: t, Sessions: s}
}

func writeReport(cmd *cobra.Command, path string, r reportFile) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if path == "-" {
		_, err = cmd.OutOrStdout().Write(raw)
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}
