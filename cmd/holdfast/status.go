package main

import (
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
)

func statusCommand() *cobra.Command {
	return live("status", "Say what runs here, for how long, and what has happened so far", "holdfast status --json", cobra.NoArgs, "json",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, _ []string) error {
			var s control.Status
			if err := c.Call(cmd.Context(), "status", nil, &s); err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd, s)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "holdfast  %s, for %s\n", s.Program, time.Duration(s.Uptime*float64(time.Second)).Round(time.Second))
			fmt.Fprintf(w, "config    %s\n", or(plainOr(s.Config), "none"))
			for _, place := range s.Listeners {
				fmt.Fprintln(w, place)
			}
			fmt.Fprintf(w, "speaks    %s, of %d identities; %d rules are on\n", or(s.Identity, "the default identity"), s.Identities, s.Rules)
			var states []string
			for _, state := range slices.Sorted(maps.Keys(s.States)) {
				states = append(states, fmt.Sprintf("%d %s", s.States[state], state))
			}
			fmt.Fprintf(w, "sessions  %s\n", orDash(states))
			t := &s.Totals
			fmt.Fprintf(w, "so far    %d requests, %d connections open; %d logins, %d dead answers that no client saw, %d that one did, %d refused, %d failed\n",
				t.Requests, s.Clients, t.Logins, t.Absorbed, t.Lost, t.Refused, t.Failed)
			if h := s.History; h != nil {
				fmt.Fprintf(w, "history   %d flows written, %d wait; %d are left out, and bodies of %d\n", h.Written, h.Waiting, h.Dropped, h.Bodies)
				if h.Failing != "" {
					fmt.Fprintf(w, "history   cannot be written: %s\n", readable(h.Failing))
				}
			}
			return nil
		})
}

// plainOr is plain that leaves an empty text empty.
func plainOr(s string) string {
	if s == "" {
		return ""
	}
	return plain(s)
}

func metricsCommand() *cobra.Command {
	return live("metrics", "Count what has happened so far, as /metrics does for a monitoring system", "holdfast metrics --json", cobra.NoArgs, "json",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, _ []string) error {
			var s control.Summary
			if err := c.Call(cmd.Context(), "metrics.summary", nil, &s); err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd, s)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			type line struct {
				what string
				n    any
			}
			lines := []line{
				{"requests of clients", s.Totals.Requests}, {"requests of Holdfast's own", s.Totals.Own}, {"requests that a rule covers", s.Engine.Requests},
				{"time that Holdfast adds to one", s.Totals.Added.Round(time.Microsecond)},
				{"answers judged dead", s.Engine.Dead}, {"of these, contradicted", s.Engine.Contradicted}, {"of these, given to a client", s.Totals.Lost},
				{"requests sent again", s.Engine.Resends}, {"requests refused", s.Totals.Refused}, {"requests that failed", s.Totals.Failed},
				{"recoveries", s.Engine.Recoveries}, {"of these, ahead of the end", s.Engine.Ahead}, {"logins", s.Engine.Logins},
				{"runs of confirm macros", s.Engine.Confirms}, {"runs of probes", s.Engine.Probes}, {"tokens taken from answers", s.Engine.Extracted},
				{"connections open", s.Connections}, {"lines of the trace lost", s.Totals.Missed}, {"listeners to events", s.Listeners},
				{"times a session was not kept", s.Engine.Unkept},
			}
			if h := s.History; h != nil {
				lines = append(lines, line{"flows in the history", h.Written}, line{"flows waiting for the disk", h.Waiting}, line{"flows left out of it", h.Dropped}, line{"flows whose body was left out", h.Bodies})
			}
			for _, line := range lines {
				fmt.Fprintf(t, "%s\t%v\n", line.what, line.n)
			}
			return t.Flush()
		})
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the configuration of a running serve, and change it", Example: "  holdfast config show"}
	cmd.AddCommand(live("show", "Say what configuration serve runs with", "holdfast config show --json", cobra.NoArgs, "json reveal",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, _ []string) error {
			var s control.Config
			if err := c.Call(cmd.Context(), "config.get", o.params(), &s); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			switch {
			case o.asJSON:
				return printJSON(cmd, s)
			case s.Text != nil:
				_, err := fmt.Fprint(w, *s.Text)
				return err
			}
			fmt.Fprintf(w, "file        %s\nidentities  %s\nmacros      %s\nrules       %s\nswitched    %s\nvariables   %s\nframing     %s\n", or(plainOr(s.File), "none"),
				orDash(s.Identities), orDash(s.Macros), orDash(s.Rules), orDash(s.Switched), orDash(s.Variables), s.Framing)
			return nil
		}))
	cmd.AddCommand(configCommands()...)
	return cmd
}
