package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/store"
)

// flowOptions are the flags of the commands about flows.
type flowOptions struct {
	query, cursor          string
	limit, body            int
	asJSON, reveal, follow bool
}

func flowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flow",
		Short: "Look into the history: list, search, show, delete, export and import flows",
		Long: `Look into the history that serve keeps in a project, also while it runs: list and
search it in HTTPQL, show one flow, delete, export and import flows. The project is
that of --project or --store, else default.db in the home directory.`,
		Example: "  holdfast flow list --query 'resp.code.gte:500'\n  holdfast flow show 4711",
	}
	cmd.AddCommand(flowListCommand(), flowShowCommand(), flowDeleteCommand(), flowExportCommand(), flowImportCommand())
	return cmd
}

// looking makes the RunE of a command that looks into the history.
func looking(do func(cmd *cobra.Command, s *store.Store, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := existingProject(cmd)
		if err != nil {
			return err
		}
		defer s.Close()
		return told(do(cmd, s, args))
	}
}

// told is an error with the next step. A query that cannot be read is a mistake
// of usage.
func told(err error) error {
	var known *flow.Error
	if !errors.As(err, &known) {
		return err
	}
	text := strings.TrimSuffix(known.Detail, ".") + "; " + known.Next
	if known.Reason == control.ReasonQuery {
		return usageError{errors.New(text)}
	}
	return errors.New(text)
}

func flowListCommand() *cobra.Command {
	o := &flowOptions{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List and search the flows of the history, the newest first",
		Long: `List the flows of the history, the newest first, or those that a condition in
HTTPQL is true of. What looks like a secret in a URL is ***, unless --reveal is
given. A search whose time is over says how to go on.

With --follow the last flows come in the order of time, and new ones as they are
written, until interrupted.`,
		Example: `  holdfast flow list
  holdfast flow list --query 'resp.code.eq:401 and req.host.cont:"shop"' --limit 100
  holdfast flow list --follow --query 'flow.tool.eq:"ffuf"' --json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: looking(func(cmd *cobra.Command, s *store.Store, _ []string) error {
			switch {
			case o.limit < 1 || o.limit > store.MaxLimit:
				return usageError{fmt.Errorf("--limit is between 1 and %d", store.MaxLimit)}
			case o.follow && o.cursor != "":
				return usageError{errors.New("--before goes without --follow")}
			case o.follow:
				return follow(cmd, s, o)
			}
			page, err := control.ListFlows(cmd.Context(), s, o.search())
			if err != nil {
				return err
			}
			return printFlows(cmd, o, page)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.query, "query", "", "only flows that the condition in `HTTPQL` is true of")
	f.IntVar(&o.limit, "limit", 20, "how many flows at most")
	f.StringVar(&o.cursor, "before", "", "go on with the flows before this `ID`")
	f.BoolVar(&o.follow, "follow", false, "go on as flows are written, until interrupted")
	f.BoolVar(&o.asJSON, "json", false, "print JSON, as the API has it; with --follow a line for each flow")
	f.BoolVar(&o.reveal, "reveal", false, "show secrets in URLs")
	return cmd
}

func (o *flowOptions) search() *control.FlowSearch {
	return &control.FlowSearch{Query: o.query, Reveal: o.reveal, Paging: control.Paging{Limit: o.limit, Cursor: o.cursor}}
}

func printFlows(cmd *cobra.Command, o *flowOptions, page *control.FlowPage) error {
	if o.asJSON {
		return printJSON(cmd, page)
	}
	p := newFlowPrinter(cmd, o)
	for i := range page.Items {
		if err := p.print(&page.Items[i]); err != nil {
			return err
		}
	}
	note := cmd.ErrOrStderr()
	if page.Damaged > 0 {
		fmt.Fprintf(note, "holdfast: %d flows cannot be read and were passed over\n", page.Damaged)
	}
	switch {
	case page.Incomplete:
		fmt.Fprintf(note, "holdfast: the time of the search is over, there may be more; go on with --before %s, or narrow the query down by host, time or status\n", page.Next)
	case page.Next != "":
		fmt.Fprintf(note, "holdfast: there may be more; go on with --before %s\n", page.Next)
	}
	return nil
}

// flowPrinter prints flows, one a line.
type flowPrinter struct {
	out   io.Writer
	json  *json.Encoder // nil: lines for a terminal
	width int           // of the terminal; 0: none
	head  bool          // it was printed
}

func newFlowPrinter(cmd *cobra.Command, o *flowOptions) *flowPrinter {
	p := &flowPrinter{out: cmd.OutOrStdout()}
	if o.asJSON {
		p.json = json.NewEncoder(p.out)
		p.json.SetEscapeHTML(false)
	}
	if file, ok := p.out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.width, _, _ = term.GetSize(int(file.Fd())) // 0 when it does not say
	}
	return p
}

func (p *flowPrinter) print(f *control.Flow) error {
	if p.json != nil {
		return p.json.Encode(f)
	}
	if !p.head {
		p.head = true
		if _, err := fmt.Fprintln(p.out, p.row("ID", "TIME", "TOOL", "IDENTITY", "ST", "LENGTH", "METHOD")+"URL"); err != nil {
			return err
		}
	}
	status, at := "-", "01-02 15:04:05"
	if f.Status > 0 {
		status = fmt.Sprint(f.Status)
	}
	if p.narrow() {
		at = "15:04:05"
	}
	row := p.row(f.ID, f.Time.Local().Format(at), readable(or(f.Tool, "-")), readable(or(f.Identity, "-")), status, f.Length, readable(f.Method))
	notable := slices.DeleteFunc(slices.Clone(f.Flags), func(flag string) bool { return flag == "rules" || flag == "traced" || flag == "edited" })
	tail := ""
	if len(notable) > 0 {
		tail = "  " + strings.Join(notable, ",")
	}
	_, err := fmt.Fprintln(p.out, row+p.fit(readable(f.URL), p.width-len([]rune(row))-len(tail))+tail)
	return err
}

// narrow reports whether a terminal has no room for all columns and a URL.
func (p *flowPrinter) narrow() bool { return p.width > 0 && p.width < 110 }

// row is what stands in front of a URL.
func (p *flowPrinter) row(id any, at, tool, identity, status string, length any, method string) string {
	if p.narrow() {
		return fmt.Sprintf("%6v %-8s %-7s %-7s %3s %-6s ", id, at, tool, identity, status, method)
	}
	return fmt.Sprintf("%8v  %-14s  %-8s %-8s %3s %9v  %-7s ", id, at, tool, identity, status, length, method)
}

// fit is a URL in a terminal that has room for so many characters of it: where
// that is too little first without its origin, then without its end, of which a
// few characters are shown in any case.
func (p *flowPrinter) fit(url string, room int) string {
	const least = 10
	if room = max(room, least); p.width == 0 || len([]rune(url)) <= room {
		return url
	}
	if _, rest, found := strings.Cut(url, "://"); found && p.narrow() {
		if slash := strings.IndexByte(rest, '/'); slash >= 0 {
			url = "…" + rest[slash:]
		}
	}
	if runes := []rune(url); len(runes) > room {
		url = string(runes[:room-1]) + "…"
	}
	return url
}

// followed is how many of the newest ids are looked through for new ones.
const followed = 4096

// follow prints the last flows, then those that are written. Ids do not rise with
// time where several processes write, so new ones are found by their absence.
func follow(cmd *cobra.Command, s *store.Store, o *flowOptions) error {
	ctx, p := cmd.Context(), newFlowPrinter(cmd, o)
	q, err := control.ParseQuery(o.query)
	if err != nil {
		return err
	}
	floor := int64(0)
	newest, err := s.Flows(ctx, 0, 1, true)
	if err != nil {
		return err
	}
	if len(newest) > 0 {
		floor = max(0, newest[0].ID-followed)
	}
	seen := map[int64]bool{}
	there, err := s.IDs(ctx, floor, 2*followed)
	if err != nil {
		return err
	}
	for _, id := range there {
		seen[id] = true
	}
	page, err := control.ListFlows(ctx, s, o.search())
	if err != nil {
		return quiet(ctx, err)
	}
	slices.Reverse(page.Items)
	for i := range page.Items {
		seen[page.Items[i].ID] = true
		if err := p.print(&page.Items[i]); err != nil {
			return err
		}
	}
	for again(ctx) {
		if there, err = s.IDs(ctx, floor, 2*followed); err != nil {
			return quiet(ctx, err)
		}
		for _, run := range unseen(there, seen) {
			search := store.Search{Query: q, After: run[0] - 1, Before: run[1] + 1, OldestFirst: true}
			for {
				found, err := s.Search(ctx, search)
				if err != nil {
					return quiet(ctx, err)
				}
				for _, stored := range found.Flows {
					shown := control.ShowFlow(stored, o.reveal)
					if err := p.print(&shown); err != nil {
						return err
					}
				}
				if search.After = found.Next; found.Next == 0 {
					break
				}
			}
		}
		for _, id := range there {
			seen[id] = true
		}
		if n := len(there); n > followed {
			floor = there[n-followed-1]
			for id := range seen {
				if id <= floor {
					delete(seen, id)
				}
			}
		}
	}
	return nil
}

// quiet is no error where the command was interrupted.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// unseen are the first and the last of the ids, in their order, that follow each
// other and were not seen.
func unseen(there []int64, seen map[int64]bool) (runs [][2]int64) {
	open := false
	for _, id := range there {
		switch {
		case seen[id]:
			open = false
		case open:
			runs[len(runs)-1][1] = id
		default:
			runs, open = append(runs, [2]int64{id, id}), true
		}
	}
	return runs
}

func flowShowCommand() *cobra.Command {
	o := &flowOptions{}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a flow: what was written, sent, answered, and done in between",
		Long: `Show a flow of the history: the request as the client wrote it, where that is not
what was sent, the request that was sent, the answer, and the trace. --body shows
the bodies, decoded. Values of cookies, credentials and what looks like a secret are
***, unless --reveal is given.

The ID is the number that holdfast flow list shows, or the beginning of a flow's UUID.`,
		Example: "  holdfast flow show 4711\n  holdfast flow show 4711 --body=2000 --reveal",
		Args:    needs("the ID of one flow", cobra.ExactArgs(1)),
		RunE: looking(func(cmd *cobra.Command, s *store.Store, args []string) error {
			stored, err := control.FindFlow(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			detail := control.DetailFlow(stored, control.Window{Most: o.body}, nil, o.reveal)
			if o.asJSON {
				return printJSON(cmd, detail)
			}
			printFlow(cmd.OutOrStdout(), detail, o.body > 0)
			return nil
		}),
	}
	f := cmd.Flags()
	f.IntVar(&o.body, "body", 0, "show the first so many `bytes` of each body (65536 where --body says no number)")
	f.Lookup("body").NoOptDefVal = "65536"
	f.BoolVar(&o.asJSON, "json", false, "print JSON, as the API has it")
	f.BoolVar(&o.reveal, "reveal", false, "show secrets")
	return cmd
}

func printFlow(w io.Writer, d *control.FlowDetail, bodies bool) {
	fmt.Fprintf(w, "%d  %s  %s\ntool %s, identity %s, %.1f ms", d.ID, d.UUID, d.Time.Local().Format("2006-01-02 15:04:05.000"), readable(or(d.Tool, "-")), readable(or(d.Identity, "-")), d.Millis)
	if d.Node != "" {
		fmt.Fprintf(w, ", node %s", readable(d.Node))
	}
	if len(d.Flags) > 0 {
		fmt.Fprintf(w, "; %s", strings.Join(d.Flags, ", "))
	}
	fmt.Fprintf(w, "\n%s\n", readable(d.URL))
	for _, part := range []struct {
		title string
		m     *control.FlowMessage
	}{{"request as the client wrote it", d.Client}, {"request as it was sent", d.Request}, {"answer", d.Response}} {
		if part.m == nil {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n", part.title)
		indent(w, "  ", readableLines(part.m.Head))
		more := ""
		if part.m.Broken {
			more = ", broken off"
		}
		switch body := part.m.Body + part.m.Base64; {
		case part.m.Bytes == 0 && body == "":
		case body == "" && !bodies:
			fmt.Fprintf(w, "  (%d bytes%s; --body shows them)\n", part.m.Bytes, more)
		default:
			indent(w, "  | ", readableLines(body))
			if part.m.Cut {
				more += ", not all of them here"
			}
			fmt.Fprintf(w, "  (%d bytes%s)\n", part.m.Bytes, more)
		}
	}
	if d.Trace.Error != "" {
		fmt.Fprintf(w, "\n%s\n", readable(d.Trace.Error))
	}
	if n := int64(len(d.Messages)); n+d.Missed > 0 {
		fmt.Fprintf(w, "\nmessages (%d, and %d that are not kept):\n", n, d.Missed)
	}
	for _, m := range d.Messages {
		fmt.Fprintf(w, "  %s %s, %d bytes  %s\n", m.From, m.Opcode, m.Size, readable(m.Data))
	}
	if len(d.Trace.Trace) > 0 {
		fmt.Fprintf(w, "\ntrace:\n")
	}
	for _, e := range d.Trace.Trace {
		fmt.Fprintf(w, "%9.1f ms  %-8s %s: %s\n", e.Millis, e.Action, readable(e.Actor), readable(e.Detail))
	}
}

// readableLines is readable that keeps lines apart.
func readableLines(s string) string {
	lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(s, "\r\n", "\n"), "\n"), "\n")
	for i, line := range lines {
		lines[i] = readable(line)
	}
	return strings.Join(lines, "\n")
}

func flowDeleteCommand() *cobra.Command {
	o := &flowOptions{}
	cmd := &cobra.Command{
		Use:   "delete [ID…]",
		Short: "Delete flows of the history, by ID or by a query",
		Long: `Delete flows of the history, by their numbers or whole UUIDs, or those that a condition in HTTPQL is
true of; the query () deletes all. List them by the same query first: they do not
come back.`,
		Example: "  holdfast flow delete 4711 4712\n  holdfast flow delete --query 'flow.tool.eq:\"ffuf\" and resp.code.eq:404'",
		RunE: looking(func(cmd *cobra.Command, s *store.Store, args []string) error {
			if (len(args) > 0) == (o.query != "") {
				return usageError{errors.New("flow delete needs either IDs or --query")}
			}
			n, err := deleteFlows(cmd.Context(), s, o.query, args)
			if o.asJSON && err == nil {
				return printJSON(cmd, control.FlowsDeleted{Version: 1, Deleted: n})
			}
			if n > 0 || err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d flows are deleted\n", n)
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&o.query, "query", "", "delete all flows that the condition in `HTTPQL` is true of")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON, as the API has it")
	return cmd
}

func deleteFlows(ctx context.Context, s *store.Store, query string, args []string) (n int, err error) {
	if query == "" {
		var ids []int64
		for _, arg := range args {
			stored, err := control.FindFlow(ctx, s, arg)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", arg, told(err))
			}
			if fmt.Sprint(stored.ID) != arg && !strings.EqualFold(stored.Flow.ID.String(), arg) {
				return 0, usageError{fmt.Errorf("%s is the beginning of a UUID, which may be that of several flows: give the whole one, or the number", arg)}
			}
			ids = append(ids, stored.ID)
		}
		return s.Delete(ctx, ids...)
	}
	for cursor := ""; ; {
		done, err := control.DeleteFlows(ctx, s, query, cursor)
		if done != nil {
			n += done.Deleted
		}
		if err != nil || done.Next == "" {
			return n, err
		}
		cursor = done.Next
	}
}
