package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/learn"
)

// learnOptions are the flags of learn.
type learnOptions struct {
	options // ways out

	out    string
	force  bool
	asJSON bool
	quiet  bool
	live   string
	query  string
	flows  bool // the history is the recording
	learn  learn.Options
}

// addBounds are the flags of what asks an application.
func addBounds(cmd *cobra.Command, most *int, rate *float64) {
	cmd.Flags().IntVar(most, "max-requests", learn.DefaultMaxRequests, "send at most `N` requests to find out")
	cmd.Flags().Float64Var(rate, "rate", learn.DefaultRate, "send at most `N` requests a second")
}

func learnCommand() *cobra.Command {
	o := &learnOptions{}
	cmd := &cobra.Command{
		Use:   "learn [FILE…]",
		Short: "Make a working configuration of one recorded login, and prove it",
		Long: `Make a working configuration of one recorded login, and prove it.

FILE is a HAR (of a browser, a proxy, or holdfast serve --record), Burp's saved
items, or a curl command line; several are one recording, in their order. Record
the login in a private window, then open two or three pages that need it.
--flows takes the flows of the history that a condition in HTTPQL is true of: a
running serve is asked, and asks the application itself; where none runs, or with
--project or --store, the project is read.

The login is derived and run twice. Requests of the recording that only read are
asked with the session, without it, and with a broken one, to find out how a dead
session shows. A refresh is run where there is one. Then a real proxy runs with
what was learnt: it logs in, its session is spoilt, and it must recover.

The password goes into the environment: the file has ${env:…}, and what to set is
printed. Recorded writes are not sent, save those of the login (--writes sends one
to prove CSRF tokens); what looks like a logout never is. Progress and report go to
standard error and hold no secret.

Exit code 0: the session is held; 3: it is not (the file is written all the same);
1: nothing was learnt.`,
		Example: "  holdfast learn login.har -o shop.yaml\n  holdfast learn --live https://shop.example/login -o shop.yaml\n  holdfast learn --flows 'req.host.eq:\"shop.example\"' -o shop.yaml\n  holdfast learn login.har --user alice --password \"$PASSWORD\" --json > report.json -o shop.yaml\n  holdfast run -c shop.yaml -- curl -s https://shop.example/account",
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			o.flows = cmd.Flags().Changed("flows")
			ways := 0
			for _, is := range []bool{len(args) > 0, o.live != "", o.flows} {
				if is {
					ways++
				}
			}
			if ways != 1 {
				return errors.New("learn needs a recording, such as login.har, --flows HTTPQL, or --live URL")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error { return runLearn(cmd, o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.out, "out", "o", "", "write the configuration to `FILE`, for its owner alone (default standard output)")
	f.BoolVar(&o.force, "force", false, "overwrite FILE")
	f.StringVar(&o.live, "live", "", "open a window at the login page's `URL`, and learn of what is done there, in place of FILE")
	f.StringVar(&o.query, "flows", "", "learn of the flows of the history that the condition in `HTTPQL` is true of, in place of FILE")
	f.StringVar(&o.learn.Base, "base", "", "`URL` of the application, where the recording has several (default the one that is used most after the login)")
	f.StringVar(&o.learn.User, "user", "", "the `name` that was typed, where its field does not tell")
	f.StringVar(&o.learn.Password, "password", "", "the `password` that was typed, likewise")
	f.BoolVar(&o.learn.InlineSecrets, "inline-secrets", false, "write passwords into the file")
	f.BoolVar(&o.learn.Writes, "writes", false, "send one recorded write, to prove its CSRF token")
	f.BoolVar(&o.asJSON, "json", false, "print the report as JSON on standard output; needs -o")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not tell what is done")
	addBounds(cmd, &o.learn.MaxRequests, &o.learn.Rate)
	o.options.addWays(cmd)
	return cmd
}

func runLearn(cmd *cobra.Command, o *learnOptions, files []string) error {
	if o.asJSON && o.out == "" {
		return usageError{errors.New("--json needs -o FILE: the configuration would stand in the report")}
	}
	if err := exists(o.out, o.force); err != nil {
		return err
	}
	exchanges, err := readRecordings(cmd, files)
	if err != nil {
		return err
	}
	if o.learn.Proxy, err = o.options.config(cmd); err != nil {
		return err
	}
	if o.flows {
		if !o.quiet {
			o.learn.Progress = progress(cmd.ErrOrStderr())
		}
		return o.flowsLearnt(cmd)
	}
	if o.live != "" {
		if exchanges, err = recordLive(cmd, o.learn.Proxy, o.live); err != nil {
			return err
		}
	}
	if !o.quiet {
		o.learn.Progress = progress(cmd.ErrOrStderr())
	}
	result, err := learn.Run(cmd.Context(), exchanges, o.learn)
	if result == nil {
		return err
	}
	if writeErr := writeLearnt(cmd, o.out, result.Config); writeErr != nil {
		return writeErr
	}
	if o.asJSON {
		if jsonErr := printJSON(cmd, result.Report); jsonErr != nil {
			return jsonErr
		}
	}
	w := cmd.ErrOrStderr()
	result.Report.Write(w)
	o.next(w, result)
	switch {
	case err != nil:
		return err
	case !result.Report.Held:
		return exitCode(exitLost)
	}
	return nil
}

// next says what to do with the file. A password is not shown: it would stay in
// the terminal.
func (o *learnOptions) next(w io.Writer, result *learn.Result) {
	var names []string
	for name := range result.Env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "set         read -rs %s && export %s\n", name, name)
	}
	if o.out != "" {
		fmt.Fprintf(w, "use         holdfast serve -c %s\n", o.out)
	}
}

// recordLive has a person log in in a window.
func recordLive(cmd *cobra.Command, c holdfast.Config, address string) ([]convert.Exchange, error) {
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		return nil, usageError{fmt.Errorf("--live %s: write the URL of the login page, https://…", address)}
	}
	c.Record, c.Listen = new(holdfast.Recording), []holdfast.Listen{{Address: "127.0.0.1:0"}}
	h, err := holdfast.New(c)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	fmt.Fprintln(cmd.ErrOrStderr(), "holdfast: log in in the window that opens, open two or three pages that need it, do not log out, and close it")
	if _, err := h.RecordBrowser(cmd.Context(), address, nil); err != nil {
		return nil, fmt.Errorf("the login was not recorded: %w", err)
	}
	return c.Record.Exchanges(), nil
}

func readRecordings(cmd *cobra.Command, files []string) ([]convert.Exchange, error) {
	var all []convert.Exchange
	for _, name := range files {
		r, err := readRecording(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, lost := range r.Lost {
			fmt.Fprintf(cmd.ErrOrStderr(), "lost        %s: %s\n", filepath.Base(name), lost)
		}
		all = append(all, r.Exchanges...)
	}
	return all, nil
}

func readRecording(name string) (*convert.Recording, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return convert.Read(f, convert.Options{})
}

func writeLearnt(cmd *cobra.Command, path string, text []byte) error {
	if path == "" {
		_, err := cmd.OutOrStdout().Write(text)
		return err
	}
	// A file that others could read keeps its mode when it is written again.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func progress(w io.Writer) func(string) {
	return func(text string) { fmt.Fprintln(w, "…           "+text) }
}

func doctorCommand() *cobra.Command {
	o := &options{}
	x := learn.Examination{}
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "doctor [-c FILE] [RULE]",
		Short: "Prove that a configuration holds its session, or say why not",
		Long: `Prove that a configuration holds its session, or say why not.

A proxy of its own runs with the file, and a client that knows no cookie and no
token sends through it: it is logged in; the answer differs from an anonymous one;
the session's tokens are spoilt, and the rule must see that and recover, by its
refresh and by its login; several requests at once cost one login. How long these
take is told, and where a proof fails, what to change.

What is asked is --url, or what the rule's confirm or probe macro asks, or the
beginning of its scope. Nothing but GET is sent beside the macros, and no logout.

Without -c a running serve examines the configuration that it has.

Exit code 0: the session is held; 3: it is not; 1: it could not be examined.`,
		Example: "  holdfast doctor -c shop.yaml\n  holdfast doctor shop --identity alice\n  holdfast doctor -c shop.yaml shop --identity alice --url https://shop.example/account --json",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				x.Rule = args[0]
			}
			if o.file == "" {
				return onServe(cmd, func(c *client.Client) error { return doctorAsked(cmd, c, x, asJSON, quiet) })
			}
			if !quiet {
				x.Progress = progress(cmd.ErrOrStderr())
			}
			return runDoctor(cmd.Context(), cmd, o, x, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "configuration `FILE` to examine (default what a running serve has)")
	f.StringVar(&x.Identity, "identity", "", "who is logged in (default the one that speaks where nobody is named)")
	f.StringVar(&x.URL, "url", "", "`URL` that needs the session")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	f.BoolVarP(&quiet, "quiet", "q", false, "do not tell what is done")
	addBounds(cmd, &x.MaxRequests, &x.Rate)
	o.addWays(cmd)
	return cmd
}

// doctorAsked has serve examine its own configuration.
func doctorAsked(cmd *cobra.Command, c *client.Client, x learn.Examination, asJSON, quiet bool) error {
	p := map[string]any{"max_requests": x.MaxRequests, "rate": max(1, int(x.Rate))}
	for name, text := range map[string]string{"rule": x.Rule, "identity": x.Identity, "url": x.URL} {
		if text != "" {
			p[name] = text
		}
	}
	stop := func() {}
	if !quiet {
		stop = hearProgress(cmd.Context(), c, progress(cmd.ErrOrStderr()))
	}
	run, err := finish(cmd, c, "doctor", p)
	stop()
	switch {
	case err != nil:
		return err
	case run.Examined == nil:
		return ended(run)
	}
	if asJSON {
		if err := printJSON(cmd, run.Examined); err != nil {
			return err
		}
	} else {
		run.Examined.Write(cmd.OutOrStdout())
	}
	switch {
	case !run.Examined.Held:
		return exitCode(exitLost)
	default:
		return ended(run)
	}
}

// progressOf is what an event of a run says that is done; "" nothing.
func progressOf(e *control.Event) string {
	var run control.RunEvent
	if e.Type != "run" || json.Unmarshal(e.Data, &run) != nil {
		return ""
	}
	return run.Progress
}

func runDoctor(ctx context.Context, cmd *cobra.Command, o *options, x learn.Examination, asJSON bool) error {
	var err error
	if x.Proxy, err = o.config(cmd); err != nil {
		return err
	}
	if _, ok := x.Proxy.File.Identities[x.Identity]; x.Identity != "" && !ok {
		return fmt.Errorf("there is no identity %q; the configuration has: %s", x.Identity, strings.Join(x.Proxy.File.Order, ", "))
	}
	report, err := learn.Examine(ctx, x)
	if report == nil {
		return err
	}
	if asJSON {
		if jsonErr := printJSON(cmd, report); jsonErr != nil {
			return jsonErr
		}
	} else {
		report.Write(cmd.OutOrStdout())
	}
	switch {
	case err != nil:
		return err
	case !report.Held:
		return exitCode(exitLost)
	}
	return nil
}
