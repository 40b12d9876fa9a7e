package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
)

// sessionHead and printSession are the list of sessions.
const sessionHead = "IDENTITY\tSTATE\tGENERATION\tLAST LOGIN\tENDS\tRECOVERY\tRULES"

func printSession(w io.Writer, s *control.Session) {
	login, ends := "-", "-"
	if !s.LastLogin.IsZero() {
		login = s.LastLogin.Local().Format("15:04:05")
	}
	if !s.Ends.IsZero() {
		ends = s.Ends.Local().Format("15:04:05")
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", oneOf(s.Identity, s.Session), s.State, s.Generation, login, ends, orDash(s.Recovery), orDash(s.Rules))
}

// oneOf names a session of an identity.
func oneOf(identity string, session int) string {
	if session > 0 {
		return fmt.Sprintf("%s (%d)", plain(identity), session)
	}
	return plain(identity)
}

func sessionListCommand() *cobra.Command {
	var follow bool
	var state string
	cmd := live("list", "List the sessions with their state", "holdfast session list\n  holdfast session list --follow --identity alice --json", cobra.NoArgs, "json identity",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, _ []string) error {
			p := o.params()
			if state != "" {
				p["state"] = state
			}
			if follow {
				return followSessions(cmd, c, o, p)
			}
			page, err := allPages[control.Session](cmd, c, "session.list", p)
			if err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd, page)
			}
			return printSessions(cmd, page.Items)
		})
	cmd.Flags().StringVar(&state, "state", "", "only those in this `STATE`: unknown, alive, dead, recovering, locked")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with each change of a session, until interrupted; with --json a line for each, an event as the API has it")
	return cmd
}

func printSessions(cmd *cobra.Command, all []control.Session) error {
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, sessionHead)
	for i := range all {
		printSession(t, &all[i])
	}
	return t.Flush()
}

// followSessions prints the sessions as they are, and then what happens to
// them. The list is asked for when the stream is there: nothing is lost between
// the two.
func followSessions(cmd *cobra.Command, c *client.Client, o *liveOptions, p map[string]any) error {
	lines := json.NewEncoder(cmd.OutOrStdout())
	lines.SetEscapeHTML(false)
	var failed error
	wanted := func(identity, state string) bool {
		return (o.identity == "" || o.identity == identity) && (p["state"] == nil || p["state"] == state)
	}
	began := func() {
		page, err := allPages[control.Session](cmd, c, "session.list", p)
		switch {
		case err != nil:
			failed = err
		case !o.asJSON:
			failed = printSessions(cmd, page.Items)
		default:
			for i := range page.Items {
				failed = errors.Join(failed, lines.Encode(page.Items[i]))
			}
		}
	}
	err := c.Follow(cmd.Context(), began, func(e control.Event) bool {
		var s control.SessionEvent
		switch {
		case failed != nil:
			return false
		case e.Type == "dropped":
			failed = errors.New("events came faster than they were printed; begin again")
		case e.Type != "session" || json.Unmarshal(e.Data, &s) != nil || !wanted(s.Identity, s.State):
		case o.asJSON:
			failed = lines.Encode(e)
		default:
			failed = printChange(cmd.OutOrStdout(), &e, &s)
		}
		return failed == nil
	})
	switch {
	case failed != nil:
		return failed
	case err == nil && cmd.Context().Err() == nil:
		return errors.New("serve has ended")
	}
	return err
}

func printChange(w io.Writer, e *control.Event, s *control.SessionEvent) error {
	text := fmt.Sprintf("%s  %s %s, generation %d", e.Time.Local().Format("15:04:05.000"), oneOf(s.Identity, s.Session), s.Kind, s.Generation)
	if s.State != s.Kind {
		text += ", " + s.State
	}
	if s.Seconds > 0 {
		text += fmt.Sprintf(", after %.3f s", s.Seconds)
	}
	if s.Detail != "" {
		text += ": " + readable(s.Detail) + " " + readable(s.Next)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

func sessionStatusCommand() *cobra.Command {
	return live("status [IDENTITY]", "Show the sessions of one identity", "holdfast session status alice --json", cobra.MaximumNArgs(1), "json",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			var s control.Sessions
			if err := c.Call(cmd.Context(), "session.get", map[string]any{"identity": whose(args)}, &s); err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd, s)
			}
			if err := printSessions(cmd, s.Sessions); err != nil {
				return err
			}
			for i := range s.Sessions {
				w, one := cmd.OutOrStdout(), &s.Sessions[i]
				if one.Why != "" {
					fmt.Fprintf(w, "%s ends then because of %s\n", oneOf(one.Identity, one.Session), readable(one.Why))
				}
				if one.LastError != "" {
					fmt.Fprintf(w, "%s: the last recovery failed: %s\n", oneOf(one.Identity, one.Session), readable(one.LastError))
				}
				if one.Failures > 0 {
					fmt.Fprintf(w, "%s: %d failed logins count for the lockout\n", oneOf(one.Identity, one.Session), one.Failures)
				}
			}
			return nil
		})
}

func sessionForgetCommand() *cobra.Command {
	return doing("forget [IDENTITY]", "Drop the tokens and cookies of an identity, so that its next request logs in anew", "holdfast session forget alice", "session.forget", "", cobra.MaximumNArgs(1),
		func(p map[string]any, args []string) { p["identity"] = whose(args) })
}

// recentOptions are the flags of what reads the trace of a running serve.
type recentOptions struct {
	identity, tool, rule string
	limit                int
	asJSON, follow       bool
}

func traceRecentCommand() *cobra.Command {
	r := &recentOptions{}
	cmd := live("recent", "List what a running serve did to the last requests, and why", "holdfast trace recent --tool scanner\n  holdfast trace recent --follow --json", cobra.NoArgs, "json identity",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, _ []string) error {
			r.identity, r.asJSON = o.identity, o.asJSON
			return recentTrace(cmd, c, r)
		})
	f := cmd.Flags()
	f.StringVar(&r.tool, "tool", "", "only what came from that `tool`")
	f.StringVar(&r.rule, "rule", "", "only requests that the `rule` was for")
	f.IntVar(&r.limit, "limit", 20, "how many lines at most, of those that serve keeps; with --follow to begin with")
	f.BoolVar(&r.follow, "follow", false, "go on as requests end, until interrupted; with --json a line for each")
	return cmd
}

// recentTrace prints the last lines, and goes on with those that come.
func recentTrace(cmd *cobra.Command, c *client.Client, o *recentOptions) error {
	if o.limit < 1 || o.limit > 1000 {
		return usageError{errors.New("--limit is between 1 and 1000")}
	}
	p := map[string]any{"limit": 1000}
	if o.identity != "" {
		p["identity"] = o.identity
	}
	if o.tool != "" {
		p["tool"] = o.tool
	}
	r := &traceReader{options: &traceOptions{}, out: cmd.OutOrStdout()}
	lines := json.NewEncoder(r.out)
	lines.SetEscapeHTML(false)
	since, first := uint64(0), true
	for first || again(cmd.Context()) {
		var page control.Page[control.TraceItem]
		if err := c.Call(cmd.Context(), "trace.recent", p, &page); err != nil {
			return quiet(cmd.Context(), err)
		}
		for _, item := range page.Items {
			since = max(since, item.Number)
		}
		p["since"] = since
		page.Items = slices.DeleteFunc(page.Items, func(i control.TraceItem) bool { return o.rule != "" && !slices.Contains(i.Rules, o.rule) })
		if first {
			page.Items, page.Next = page.Items[:min(len(page.Items), o.limit)], ""
		}
		if o.asJSON && !o.follow {
			return printJSON(cmd, page)
		}
		for _, item := range slices.Backward(page.Items) {
			if err := printTraced(r, lines, &item, o.asJSON); err != nil {
				return err
			}
		}
		if first = false; !o.follow {
			return nil
		}
	}
	return nil
}

func printTraced(r *traceReader, lines *json.Encoder, item *control.TraceItem, asJSON bool) error {
	switch {
	case asJSON:
		return lines.Encode(item)
	case item.Method == "": // about a message or a connection
		_, err := fmt.Fprintf(r.out, "%36s  %s  %s\n", item.ID, item.Time.Local().Format("15:04:05.000"), readable(or(item.Error, "a message on a WebSocket")))
		return err
	}
	line := holdfast.TraceLine(item.TraceLine)
	_, err := fmt.Fprintln(r.out, r.row(&line))
	return err
}
