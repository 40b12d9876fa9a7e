package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
)

// recordingCommands record in a running serve.
func recordingCommands() []*cobra.Command {
	return []*cobra.Command{recordStartCommand(), recordStopCommand(), recordStatusCommand(),
		recordListCommand()}
}

func recordStartCommand() *cobra.Command {
	var filter control.RecordingFilter
	cmd := live("start [NAME]", "Have a running serve note which flows pass from now on", "holdfast macro record start login --tool browser --host shop.example", cobra.MaximumNArgs(1), "json identity",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			p := o.params()
			for name, value := range map[string]string{"tool": filter.Tool, "host": filter.Host, "query": filter.Query} {
				if value != "" {
					p[name] = value
				}
			}
			if len(args) > 0 {
				p["name"] = args[0]
			}
			var r control.Recording
			if err := c.Call(cmd.Context(), "record.start", p, &r); err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd, r)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s goes on; log in, then: holdfast macro record stop %s\n", plain(r.Name), plain(r.Name))
			return err
		})
	f := cmd.Flags()
	f.StringVar(&filter.Tool, "tool", "", "only flows of that `tool`")
	f.StringVar(&filter.Host, "host", "", "only flows to that `host`: a name, *.name, or an address")
	f.StringVar(&filter.Query, "query", "", "only flows that the condition in `HTTPQL` is true of")
	cmd.Flag("identity").Usage = "only flows of that `identity`"
	cmd.Long += " At most 8\nrecordings go on at a time, and each has 5000 flows at most. The flows themselves\nstand in the history."
	return cmd
}

func recordStopCommand() *cobra.Command {
	wait := 0
	cmd := live("stop [NAME]", "Stop a recording, and list the flows that it has", "holdfast macro record stop login\n  holdfast macro record stop --json", cobra.MaximumNArgs(1), "json",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			p := map[string]any{"name": whose(args)}
			if wait > 0 {
				p["wait"] = wait
			}
			return oneRecording(cmd, c, o, "record.stop", p)
		})
	cmd.Flags().IntVar(&wait, "wait", 0, "wait so many `SECONDS` at most for flows that are under way, up to 60; others are left out (default 10)")
	cmd.Long += " Without a name\nit is the last recording that was started."
	return cmd
}

func recordStatusCommand() *cobra.Command {
	cmd := live("status [NAME]", "Show a recording, and the flows that it has so far", "holdfast macro record status login", cobra.MaximumNArgs(1), "json",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			return oneRecording(cmd, c, o, "record.status", map[string]any{"name": whose(args)})
		})
	cmd.Long += " Without a name\nit is the last recording that was started."
	return cmd
}

func oneRecording(cmd *cobra.Command, c *client.Client, o *liveOptions, operation string, p map[string]any) error {
	var r control.Recording
	if err := c.Call(cmd.Context(), operation, p, &r); err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(cmd, r)
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s  %s, %d flows", plain(r.Name), r.State, r.Count)
	for _, part := range []struct {
		n    int
		what string
	}{{r.Under, "are under way"}, {r.Left, "took longer and are left out"}, {r.Missed, "were too many"}, {r.Unkept, "the history could not keep"}} {
		if part.n > 0 {
			fmt.Fprintf(w, "; %d %s", part.n, part.what)
		}
	}
	fmt.Fprintln(w)
	for _, id := range r.Flows {
		fmt.Fprintln(w, id)
	}
	return nil
}

func recordListCommand() *cobra.Command {
	cmd := listing("list", "List the recordings that go on, and the last that are stopped", "record.list", "", "NAME\tSTATE\tFLOWS\tBEGAN\tTOOL\tIDENTITY\tHOST\tQUERY", func(w io.Writer, r *control.Recording) {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", plain(r.Name), r.State, r.Count, r.Began.Local().Format("15:04:05"), or(readable(r.Tool), "-"), or(readable(r.Identity), "-"), or(readable(r.Host), "-"), or(readable(r.Query), "-"))
	})
	cmd.Example = "  holdfast macro record list --json"
	return cmd
}
