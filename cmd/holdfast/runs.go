package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
)

// runsCommand is about what takes long. It is not "run", which runs a command.
func runsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "runs", Short: "Look at what takes long in a running serve (macros, refreshes, learning), and end it",
		Example: "  holdfast runs list\n  holdfast runs cancel run-1"}
	one := func(operation string) func(*cobra.Command, *client.Client, *liveOptions, []string) error {
		return func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			var run control.Run
			p := o.params()
			p["id"] = args[0]
			if err := c.Call(cmd.Context(), operation, p, &run); err != nil {
				return err
			}
			return printRun(cmd, &run, o.asJSON)
		}
	}
	list := listing("list", "List the runs that are under way, and the last that are over", "run.list", "", "ID\tSTATE\tOPERATION\tIDENTITY\tMACRO\tREQUESTS\tBEGAN", printRunRow)
	list.Example = "  holdfast runs list --json" // the operation is called run
	cmd.AddCommand(list,
		live("show ID", "Show a run", "holdfast runs show run-1 --json", cobra.ExactArgs(1), "json reveal", one("run.get")),
		live("cancel ID", "End a run; requests that were sent stay sent", "holdfast runs cancel run-1", cobra.ExactArgs(1), "json", one("run.cancel")))
	return cmd
}

// printRun shows a run, and how it ended.
func printRun(cmd *cobra.Command, run *control.Run, asJSON bool) error {
	if asJSON {
		return printJSON(cmd, run)
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s  %s  %s: %s, %d requests\n", run.ID, run.Operation, or(strings.TrimSpace(run.Identity+" "+run.Macro), "-"), run.State, run.Requests)
	if run.Report != nil {
		printReport(w, run.Report)
	}
	if run.Error != nil {
		fmt.Fprintf(w, "%s %s\n", readable(run.Error.Detail), readable(run.Error.Next))
	}
	return nil
}

func printRunRow(w io.Writer, r *control.Run) {
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", r.ID, r.State, r.Operation, or(r.Identity, "-"), or(r.Macro, "-"), r.Requests, r.Began.Local().Format("15:04:05"))
}

// cancelling is how long an interrupted command waits for its run to end.
const cancelling = 10 * time.Second

// finish begins an operation that takes long, and waits for its end. Who
// interrupts the command ends the run.
func finish(cmd *cobra.Command, c *client.Client, operation string, params any) (*control.Run, error) {
	ctx, run := cmd.Context(), &control.Run{}
	if err := c.Call(ctx, operation, params, run); err != nil {
		return nil, err
	}
	for run.State == control.RunGoing {
		id := run.ID
		*run = control.Run{}
		ask := map[string]any{"id": id, "wait": 60}
		if p, ok := params.(map[string]any); ok && p["reveal"] == true {
			ask["reveal"] = true
		}
		err := c.Call(ctx, "run.get", ask, run)
		if err != nil && ctx.Err() != nil {
			late, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelling)
			defer stop()
			if c.Call(late, "run.cancel", map[string]any{"id": id}, nil) == nil {
				return nil, fmt.Errorf("interrupted; %s is ended", id)
			}
			return nil, fmt.Errorf("interrupted; %s goes on: holdfast runs cancel %s", id, id)
		}
		if err != nil {
			return nil, err
		}
	}
	return run, nil
}

// ended is the error of a run that did not do what it was to do.
func ended(run *control.Run) error {
	switch {
	case run.Error != nil && run.Error.Next != "":
		return fmt.Errorf("%s; %s", strings.TrimSuffix(run.Error.Detail, "."), run.Error.Next)
	case run.Error != nil:
		return fmt.Errorf("%s", strings.TrimSuffix(run.Error.Detail, "."))
	case run.State != control.RunDone:
		return fmt.Errorf("%s is %s", run.ID, run.State)
	}
	return nil
}

func macroRunCommand() *cobra.Command {
	var inputs []string
	cmd := live("run NAME", "Run a macro once with the cookies of an identity, and keep what it brings as tokens", "holdfast macro run login --identity alice --input OTP=123456", cobra.ExactArgs(1), "json identity reveal",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			given, err := assignments("--input", inputs)
			if err != nil {
				return err
			}
			p := o.params()
			p["name"], p["inputs"] = args[0], given
			run, err := finish(cmd, c, "macro.run", p)
			if err != nil {
				return err
			}
			switch {
			case o.asJSON:
				if err := printJSON(cmd, run); err != nil {
					return err
				}
			case run.Report != nil:
				printReport(cmd.OutOrStdout(), run.Report)
			}
			return ended(run)
		})
	cmd.Flags().StringArrayVar(&inputs, "input", nil, "a value for an input of the macro, or for a variable, as `NAME=VALUE`; may be repeated")
	return cmd
}
