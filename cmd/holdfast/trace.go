package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/control"
)

// Limits of reading a trace.
const (
	maxTraceLine = 1 << 20                // bytes; a longer line is passed over
	followEvery  = 200 * time.Millisecond // how often --follow looks for more
)

type traceOptions struct {
	path, config, rule string
	asJSON, follow     bool
}

func traceCommand() *cobra.Command {
	o := &traceOptions{}
	cmd := &cobra.Command{
		Use:   "trace [--file TRACE] [ID]",
		Short: "Read a trace: what was done to each request, and why",
		Long: `Tell what was done to a flow of the history, by the number that holdfast flow list
shows or the beginning of its UUID. With --file, read the file that serve or run
wrote with --trace instead. Without an ID that lists the requests, one a line; with
the beginning of one's ID it tells what was done to that request, step by step: the rules that were for it, waits and logins,
edits, answers that the client never saw. With -c it says as well why the other
rules of that configuration were not for it, as far as a trace can tell: it holds
no query, header or body. No value of a token is shown.

With --follow and neither file nor ID it goes on with what a running serve does.`,
		Example: `  holdfast trace 4711
  holdfast trace --follow
  holdfast trace --file trace.jsonl
  holdfast trace --file trace.jsonl --follow --rule shop
  holdfast trace --file trace.jsonl -c shop.yaml 019aa7c2-7e31-7000-8011`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			return readTrace(cmd, o, id)
		},
	}
	cmd.AddCommand(traceRecentCommand())
	f := cmd.Flags()
	f.StringVar(&o.path, "file", "", "`file` that --trace of serve or run wrote; - is standard input")
	f.StringVarP(&o.config, "config", "c", "", "configuration file: says why its other rules were not for the request")
	f.StringVar(&o.rule, "rule", "", "only requests that the `rule` was for")
	f.BoolVar(&o.follow, "follow", false, "go on as the file grows, or as requests end in a running serve, until interrupted")
	f.BoolVar(&o.asJSON, "json", false, "print the lines that would be shown, as JSON, as they are")
	return cmd
}

func readTrace(cmd *cobra.Command, o *traceOptions, id string) error {
	switch {
	case o.path == "" && id == "" && o.follow && o.config == "":
		return onServe(cmd, func(c *client.Client) error {
			return recentTrace(cmd, c, &recentOptions{rule: o.rule, limit: 20, asJSON: o.asJSON, follow: true})
		})
	case o.path == "" && (id == "" || o.follow || o.rule != ""):
		return usageError{errors.New("trace needs the file: --file TRACE, or the ID of a flow of the history alone, or --follow alone for a running serve")}
	case o.config != "" && id == "":
		return usageError{errors.New("-c goes with the ID of a request")}
	}
	if o.path == "" {
		return storedTrace(cmd, o, id)
	}
	in := cmd.InOrStdin()
	if o.path != "-" {
		f, err := os.Open(o.path)
		if err != nil {
			return fmt.Errorf("the trace cannot be read: %w", err)
		}
		defer f.Close()
		in = f
	}
	r := &traceReader{options: o, id: strings.ToLower(id), out: cmd.OutOrStdout()}
	if o.config != "" {
		var err error
		if r.config, err = load(cmd.ErrOrStderr(), o.config); err != nil {
			return err
		}
	}
	if err := r.read(cmd.Context(), in); err != nil {
		return err
	}
	if r.odd > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %d lines are no lines of a trace and were passed over\n", r.odd)
	}
	if id != "" && r.shown == 0 && !o.follow {
		return fmt.Errorf("the trace has no request whose ID begins with %q", id)
	}
	return nil
}

// storedTrace is a flow of the history.
func storedTrace(cmd *cobra.Command, o *traceOptions, id string) error {
	r := &traceReader{options: o, out: cmd.OutOrStdout()}
	var err error
	if o.config != "" {
		if r.config, err = load(cmd.ErrOrStderr(), o.config); err != nil {
			return err
		}
	}
	s, err := existingProject(cmd)
	if err != nil {
		return err
	}
	defer s.Close()
	stored, err := control.FindFlow(cmd.Context(), s, id)
	if err != nil {
		return told(err)
	}
	raw, err := json.Marshal(holdfast.LineOf(stored.Flow, stored.Rules))
	if err != nil {
		return err
	}
	r.id = stored.Flow.ID.String()
	return r.line(cmd.Context(), append(raw, '\n'))
}

// traceReader prints what it reads.
type traceReader struct {
	options *traceOptions
	id      string // the beginning of it; "" lists
	config  *config.File
	out     io.Writer

	shown, odd int
}

// messageLine is a line about a message on a WebSocket.
type messageLine struct {
	ID      string
	Time    time.Time
	Error   string
	Message *struct {
		From, Opcode string
		Size         int64
		Code         int
		Notes        []string
	}
}

func (r *traceReader) read(ctx context.Context, in io.Reader) error {
	b := bufio.NewReaderSize(in, 64<<10)
	var line []byte
	tooLong := false
	for {
		piece, err := b.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(piece) > maxTraceLine; !tooLong {
			line = append(line, piece...)
		}
		switch {
		case err == nil:
			if tooLong {
				r.odd++
			} else if err := r.line(ctx, line); err != nil {
				return err
			}
			line, tooLong = line[:0], false
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && r.options.follow:
			if !again(ctx) {
				return nil
			}
		case err == io.EOF:
			if len(line) > 0 && !tooLong { // it was being written
				return r.line(ctx, line)
			}
			return nil
		default:
			return fmt.Errorf("the trace cannot be read: %w", err)
		}
	}
}

// again waits until it is time to look for more; false when nobody wants it.
func again(ctx context.Context) bool {
	t := time.NewTimer(followEvery)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *traceReader) line(ctx context.Context, raw []byte) error {
	var l holdfast.TraceLine
	if json.Unmarshal(raw, &l) != nil || l.Version != 1 {
		r.odd++
		return nil
	}
	if !strings.HasPrefix(l.ID, r.id) {
		return nil
	}
	if r.options.rule != "" && !slices.Contains(l.Rules, r.options.rule) {
		return nil
	}
	r.shown++
	switch {
	case r.options.asJSON:
		_, err := fmt.Fprintf(r.out, "%s\n", bytes.TrimSuffix(raw, []byte("\n")))
		return err
	case l.Method == "":
		return r.other(raw)
	case r.id == "":
		_, err := fmt.Fprintln(r.out, r.row(&l))
		return err
	}
	return r.story(ctx, &l)
}

// row is a flow in one line of the list.
func (r *traceReader) row(l *holdfast.TraceLine) string {
	status := "-"
	if l.Status > 0 {
		status = fmt.Sprint(l.Status)
	}
	what := strings.Join(l.Rules, ",")
	if l.Resent > 0 {
		what += fmt.Sprintf(" sent %d times", l.Resent+1)
	}
	if l.Error != "" {
		what += " " + l.Error
	}
	return strings.TrimRight(fmt.Sprintf("%s  %s  %-8s %-8s %3s %9.1f ms  %s %s  %s", l.ID, l.Time.Local().Format("15:04:05.000"), l.Tool,
		or(l.Identity, "-"), status, l.Millis, l.Method, readable(l.URL), readable(what)), " ")
}

// other is a line about a message, or about a connection.
func (r *traceReader) other(raw []byte) error {
	var m messageLine
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	text := readable(m.Error)
	if m.Message != nil {
		text = fmt.Sprintf("%s: %s message, %d bytes", readable(m.Message.From), readable(m.Message.Opcode), m.Message.Size)
		if m.Message.Code > 0 {
			text += fmt.Sprintf(", code %d", m.Message.Code)
		}
		if len(m.Message.Notes) > 0 {
			text += ", " + readable(strings.Join(m.Message.Notes, ", "))
		}
	}
	_, err := fmt.Fprintf(r.out, "%36s  %s  %s\n", readable(m.ID), m.Time.Local().Format("15:04:05.000"), text)
	return err
}

// story is a flow as a person reads it.
func (r *traceReader) story(ctx context.Context, l *holdfast.TraceLine) error {
	w := r.out
	if r.shown > 1 {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s %s\n", l.Method, readable(l.URL))
	answer := "no answer"
	if l.Status > 0 {
		answer = fmt.Sprint(l.Status)
	}
	fmt.Fprintf(w, "  %s after %.1f ms; identity %s, tool %s, generation %d\n  %s, %s\n",
		answer, l.Millis, or(readable(l.Identity), "by default"), readable(l.Tool), l.Gen, l.ID, l.Time.Local().Format("2006-01-02 15:04:05.000"))
	if l.Error != "" {
		fmt.Fprintf(w, "  %s\n", readable(l.Error))
	}
	switch {
	case len(l.Rules) > 0:
		fmt.Fprintf(w, "\nrules that were for it: %s\n", readable(strings.Join(l.Rules, ", ")))
	case l.Tool == "macro":
		fmt.Fprintf(w, "\na request of Holdfast's own: no rule is for it\n")
	default:
		fmt.Fprintf(w, "\nno rule was for it\n")
	}
	for _, e := range l.Trace {
		fmt.Fprintf(w, "%9.1f ms  %-8s %s: %s\n", e.Millis, e.Action, readable(e.Actor), readable(e.Detail))
	}
	if l.Dropped > 0 {
		fmt.Fprintf(w, "              and %d steps more\n", l.Dropped)
	}
	if len(l.Earlier) > 0 {
		fmt.Fprintln(w, "\nanswers that the client never saw:")
		for _, a := range l.Earlier {
			fmt.Fprintf(w, "  %d to generation %d, %s\n", a.Status, a.Gen, readable(a.Reason))
		}
	}
	if len(l.Changes) > 0 {
		fmt.Fprintln(w, "\nwhat was sent last, against what the client wrote (*** is a new value, … one left alone):")
		for _, c := range l.Changes {
			fmt.Fprintf(w, "  %s\n", readable(c))
		}
	}
	return r.whyNot(ctx, l)
}

// whyNot asks the configuration about the request, as far as the trace has it.
func (r *traceReader) whyNot(ctx context.Context, l *holdfast.TraceLine) error {
	if r.config == nil || l.Tool == "macro" {
		return nil
	}
	f, err := config.Sample([]byte(l.Method+" "+l.URL), true)
	if err != nil {
		return fmt.Errorf("the request of the trace cannot be read: %w", err)
	}
	engine, identity, err := holdfast.Offline(r.config, "")
	if err != nil {
		return err
	}
	defer engine.Close()
	if f.Tool, f.Identity = l.Tool, l.Identity; f.Identity == "" {
		f.Identity = identity
	}
	e, err := engine.Explain(ctx, f, nil)
	if err != nil {
		return fmt.Errorf("%s is not the configuration that the request met: %w", r.options.config, err)
	}
	fmt.Fprintf(r.out, "\nother rules of %s:\n", r.options.config)
	none := true
	for i := range e.Rules {
		rule := &e.Rules[i]
		if slices.Contains(l.Rules, rule.Rule) {
			continue
		}
		none = false
		why := rule.Why
		switch {
		case rule.Applies:
			why = "it would be by method and URL: the configuration has changed since, or the query decided"
		case asksMore(why):
			why += " (the trace has no query, header or body: ask holdfast explain with the whole request)"
		}
		fmt.Fprintf(r.out, "  %s was not for it: %s\n", rule.Rule, why)
	}
	if none {
		fmt.Fprintln(r.out, "  none")
	}
	return nil
}

// asksMore reports whether a condition was about what a trace does not have.
func asksMore(why string) bool {
	for _, kind := range []string{"parameter:", "httpql:", "url:"} {
		if strings.HasPrefix(why, kind) {
			return true
		}
	}
	return false
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// readable is a text for a terminal: what an origin or a client wrote cannot move
// its cursor.
func readable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c >= 0x7f && c < 0xa0 {
			return '.'
		}
		return c
	}, s)
}
