package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/macro"
)

func macroTestCommand() *cobra.Command {
	o := &deriveOptions{}
	var identity string
	var inputs []string
	var reveal bool
	cmd := &cobra.Command{
		Use:   "test [-c FILE] NAME",
		Short: "Run a macro once and show what each step sent, got and took",
		Long: `Run a macro once and show what each step sent, got and took from the answer.
It is really sent, with a jar of its own; nothing of it is kept, and a failure
does not count for the lockout. Only a one-time code is used up.

Values of variables, tokens and cookies, and what looks like one, are shown as
***; --reveal shows them. Exit code 1: a step failed.

Without -c it is a macro of a running serve, and serve runs it.`,
		Example: "  holdfast macro test -c shop.yaml login\n  holdfast macro test login\n  holdfast macro test -c shop.yaml login --identity bob --input OTP=123456 --json",
		Args:    needs("the name of a macro", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.file == "" {
				return testOnServe(cmd, args[0], identity, inputs, o.asJSON, reveal)
			}
			result, c, err := o.try(cmd, args[0], identity, inputs)
			steps, failed := outcomeOf(result, err)
			if err != nil && failed == nil {
				return err
			}
			given, _ := assignments("--input", inputs) // try has read them
			r := control.ReportMacro(slices.Collect(maps.Values(control.VariablesOf(c.File, identity))), args[0], identity, given, steps, failed, reveal)
			if o.asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				if err := enc.Encode(r); err != nil {
					return err
				}
			} else {
				printReport(cmd.OutOrStdout(), r)
			}
			if failed != nil {
				return exitCode(exitError)
			}
			return nil
		},
	}
	o.addWays(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "configuration `FILE` with the macro (default what a running serve has)")
	f.StringVar(&identity, "identity", "", "`identity` that the macro runs for (default the one that requests speak for which name none)")
	f.StringArrayVar(&inputs, "input", nil, "a value for an input of the macro, or for a variable, as `NAME=VALUE`; may be repeated")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	f.BoolVar(&reveal, "reveal", false, "show values, passwords and tokens too")
	return cmd
}

// testOnServe has a running serve try a macro of its own.
func testOnServe(cmd *cobra.Command, name, identity string, inputs []string, asJSON, reveal bool) error {
	given, err := assignments("--input", inputs)
	if err != nil {
		return err
	}
	return onServe(cmd, func(c *client.Client) error {
		p := (&liveOptions{identity: identity, reveal: reveal}).params()
		p["name"], p["inputs"] = name, given
		run, err := finish(cmd, c, "macro.test", p)
		if err != nil {
			return err
		}
		if run.Report == nil {
			return ended(run)
		}
		if asJSON {
			err = printJSON(cmd, run.Report)
		} else {
			printReport(cmd.OutOrStdout(), run.Report)
		}
		if err == nil && run.Error != nil {
			err = exitCode(exitError)
		}
		return err
	})
}

// try runs a macro of the configuration.
func (o *deriveOptions) try(cmd *cobra.Command, name, identity string, inputs []string) (*macro.Result, holdfast.Config, error) {
	if o.file == "" {
		return nil, holdfast.Config{}, usageError{errors.New(strings.TrimPrefix(cmd.CommandPath(), "holdfast ") + " needs -c FILE")}
	}
	given, err := assignments("--input", inputs)
	if err != nil {
		return nil, holdfast.Config{}, err
	}
	o.ask = terminalAsker(cmd)
	c, err := o.config(cmd)
	if err != nil {
		return nil, c, err
	}
	if c.Store, err = openProject(cmd); err != nil { // for the one-time codes that were used
		return nil, c, err
	}
	defer c.Store.Close()
	result, err := holdfast.TryMacro(cmd.Context(), c, name, identity, given)
	return result, c, err
}

// outcomeOf is what was answered, and the step that failed; nil where none did.
func outcomeOf(result *macro.Result, err error) ([]macro.StepResult, *macro.StepError) {
	var failed *macro.StepError
	if errors.As(err, &failed) {
		return failed.Steps, failed
	}
	if result == nil {
		return nil, nil
	}
	return result.Steps, nil
}

// again runs a macro and derives it anew from what was sent and answered.
func (o *deriveOptions) again(cmd *cobra.Command, name, identity string, inputs []string) error {
	result, c, err := o.try(cmd, name, identity, inputs)
	steps, failed := outcomeOf(result, err)
	if err != nil && failed == nil {
		return err
	}
	var exchanges []convert.Exchange
	for i := range steps {
		s := &steps[i]
		x, err := convert.Of(strings.TrimSuffix(s.Flow.Origin.URL(nil), "/"), s.Flow.Request, s.Sent, s.Response, nil)
		if err != nil {
			return err
		}
		x.Entry, x.Time, x.ResponseBody = i+1, s.Flow.Start, s.Body
		exchanges = append(exchanges, x)
	}
	for variable, value := range control.VariablesOf(c.File, identity) {
		if !strings.Contains(value, "://") && !slices.ContainsFunc(o.values, func(v string) bool { return strings.HasPrefix(v, variable+"=") }) {
			o.values = append(o.values, variable+"="+value)
		}
	}
	o.all = true
	if failed != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %v\n", failed)
	}
	if len(exchanges) == 0 {
		return exitCode(exitError)
	}
	return o.report(cmd.Context(), cmd, exchanges, nil)
}

func printReport(w io.Writer, r *control.MacroReport) {
	for _, x := range r.Requests {
		fmt.Fprintf(w, "step %d  %s  %.1f ms\n", x.Step, x.URL, x.Millis)
		indent(w, "  > ", x.Sent)
		indent(w, "  < ", x.Got)
		names := make([]string, 0, len(x.Extracted))
		for name := range x.Extracted {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(w, "  took %s = %s\n", name, x.Extracted[name])
		}
		if len(x.Sets) > 0 {
			fmt.Fprintf(w, "  cookies set: %s\n", strings.Join(x.Sets, ", "))
		}
		fmt.Fprintln(w)
	}
	if r.Failed != nil {
		fmt.Fprintf(w, "FAILED  %s\n", r.Failed.Message)
		return
	}
	fmt.Fprintf(w, "ok  macro %s: %d requests, %d values\n", r.Macro, len(r.Requests), len(r.Values))
}

func indent(w io.Writer, prefix, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintln(w, strings.TrimRight(prefix+line, " "))
	}
}
