package control

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
)

// Reasons of errors about flows.
const (
	ReasonQuery     = "query_invalid" // a condition in HTTPQL cannot be read
	ReasonNoHistory = "history_none"  // there is no project
	ReasonHistory   = "history_unreadable"
)

const (
	maxShownURL = 2048             // bytes of a URL in a list
	deleteFor   = 60 * time.Second // that one call may delete by a query
	maxIDs      = 10_000           // that one call deletes
)

// Flow is one flow of the history, as a list has it.
type Flow struct {
	ID       int64     `json:"id" doc:"Of the row in the project."`
	UUID     string    `json:"uuid" doc:"As traces name the flow."`
	Time     time.Time `json:"time" doc:"When its request was there."`
	Tool     string    `json:"tool"`
	Identity string    `json:"identity,omitempty"`
	Node     string    `json:"node,omitempty" doc:"Of a fleet, which wrote it."`
	Method   string    `json:"method"`
	URL      string    `json:"url" doc:"What looks like a secret in it is ***, unless it is revealed."`
	Status   int       `json:"status,omitempty" doc:"Absent: there was no answer."`
	Length   int64     `json:"length" doc:"Bytes of the answer's body, as it came."`
	Millis   float64   `json:"ms"`
	Flags    []string  `json:"flags" nullable:"false" doc:"What happened to it: resent, recovered, passed-dead, refused, failed, rules, edited, socket, body-cut, traced."`
}

// FlowPage is a part of a list of flows.
type FlowPage struct {
	Version    int    `json:"v" doc:"Of this shape: 1."`
	Items      []Flow `json:"items" nullable:"false" doc:"The newest first."`
	Next       string `json:"next,omitempty" doc:"The cursor of the next page; absent on the last."`
	Incomplete bool   `json:"incomplete" doc:"The time of the search was over: there may be more before next."`
	Damaged    int64  `json:"damaged,omitempty" doc:"How many flows could not be read."`
}

// FlowsDeleted says what a deletion came to.
type FlowsDeleted struct {
	Version int    `json:"v" doc:"Of this shape: 1."`
	Deleted int    `json:"deleted"`
	Next    string `json:"next,omitempty" doc:"The time was over: give this as cursor to go on."`
}

// FlowSearch asks for flows.
type FlowSearch struct {
	Query  string `json:"query,omitempty" maxLength:"65536" doc:"A condition in HTTPQL; all flows when absent. Without reveal it is asked about texts in which secrets are ***."`
	Reveal bool   `json:"reveal,omitempty" doc:"Show URLs as they are, and ask the query about them as they are, where Holdfast was started with --reveal-secrets."`
	Paging
}

// ParseQuery reads a condition; the error says where it is wrong.
func ParseQuery(text string) (*httpql.Query, error) {
	q, err := httpql.Parse(text)
	var wrong *httpql.SyntaxError
	switch {
	case errors.As(err, &wrong):
		return nil, &flow.Error{Status: 422, Reason: ReasonQuery, Detail: fmt.Sprintf("The query is wrong at line %d, column %d: %s.", wrong.Line, wrong.Column, wrong.Msg),
			Next: or(wrong.Hint, `A query is written as in resp.code.eq:401 and req.host.cont:"shop".`)}
	case err != nil:
		return nil, invalid("The query cannot be read.", "Write it in HTTPQL.")
	case q.Needs()&httpql.NeedPresets != 0:
		return nil, &flow.Error{Status: 422, Reason: ReasonQuery, Detail: "The query names a preset, and there are none here.", Next: "Write the condition out."}
	}
	return q, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// ListFlows looks for flows in a project, the newest first. The query is asked
// about what the flows have, whether it is shown or not: it is for those who can
// read the project anyway.
func ListFlows(ctx context.Context, s *store.Store, p *FlowSearch) (*FlowPage, error) {
	return listFlows(ctx, s, p, nil, nil)
}

// seeing is store.Search.See.
type seeing func(*store.Stored, *flow.Record) httpql.Record

func listFlows(ctx context.Context, s *store.Store, p *FlowSearch, see seeing, known *hider) (*FlowPage, error) {
	found, err := searchFlows(ctx, s, p, see)
	if err != nil {
		return nil, err
	}
	page := &FlowPage{Version: 1, Items: []Flow{}, Incomplete: found.Incomplete, Damaged: found.Damaged}
	for _, stored := range found.Flows {
		page.Items = append(page.Items, showFlow(stored, flowHider(stored.Flow, known, p.Reveal)))
	}
	if found.Next > 0 {
		page.Next = strconv.FormatInt(found.Next, 10)
	}
	return page, nil
}

func searchFlows(ctx context.Context, s *store.Store, p *FlowSearch, see seeing) (*store.Found, error) {
	q, err := ParseQuery(p.Query)
	if err != nil {
		return nil, err
	}
	o := store.Search{Query: q, Limit: p.Limit, See: see}
	if p.Cursor != "" {
		if o.Before, err = strconv.ParseInt(p.Cursor, 10, 64); err != nil || o.Before <= 0 {
			return nil, invalid("The cursor is none that a page of this list had as its next.", "Begin without a cursor.")
		}
	}
	found, err := s.Search(ctx, o)
	return found, unreadable(ctx, err)
}

// unreadable is an error of the store as those who ask are told it.
func unreadable(ctx context.Context, err error) error {
	var known *flow.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, store.ErrNoFlow):
		return notFound("The history has no such flow.", "List flows to see which there are; old ones are deleted where history.keep or history.max_size says so.")
	}
	return &flow.Error{Status: 503, Reason: ReasonHistory, Detail: "The history cannot be read: " + err.Error() + ".", Next: "Try again, or look after the project's file or server.", Cause: err}
}

// ShowFlow is a flow as a list has it.
func ShowFlow(stored *store.Stored, reveal bool) Flow {
	return showFlow(stored, flowHider(stored.Flow, nil, reveal))
}

func showFlow(stored *store.Stored, h *flowSecrets) Flow {
	f := stored.Flow
	shown := Flow{ID: stored.ID, UUID: f.ID.String(), Time: f.Start, Tool: f.Tool, Identity: f.Identity, Node: stored.Node, Flags: stored.Flags().Words(),
		Millis: float64(f.Ended.Sub(f.Start).Microseconds()) / 1000}
	if f.Request != nil {
		shown.Method = string(f.Request.Method())
		shown.URL = urlOf(f, h)
	}
	switch {
	case f.Response != nil:
		shown.Status = f.Response.Status()
	case f.Refused != nil:
		shown.Status = f.Refused.Code()
	}
	if stored.Response != nil {
		shown.Length = stored.Response.Size
	}
	return shown
}

func urlOf(f *flow.Flow, h *flowSecrets) string {
	path := string(f.Request.Path())
	if f.ShownPath != "" && !h.reveal {
		path = f.ShownPath
	}
	if query := f.Request.Query(); len(query) > 0 {
		path += "?" + string(query)
	}
	if len(path) > maxShownURL {
		path = path[:maxShownURL] + fmt.Sprintf("… (%d bytes)", len(path))
	}
	return f.Origin.URL([]byte(strings.ToValidUTF8(h.text(path), "\ufffd")))
}

// FindFlow reads the flow that a text names: the number of its row, or the
// beginning of its UUID, of which the newest flow is meant.
func FindFlow(ctx context.Context, s *store.Store, id string) (*store.Stored, error) {
	digits := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(id)), "-", "")
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n > 0 && !strings.HasPrefix(digits, "0") && !strings.Contains(id, "-") {
		stored, err := s.Flow(ctx, n)
		return stored, unreadable(ctx, err)
	}
	const stamp = 12 // hexadecimal digits of a UUIDv7 that are its time in milliseconds
	padded := func(with string) (int64, error) {
		text := (digits + strings.Repeat(with, stamp))[:stamp]
		return strconv.ParseInt(text, 16, 64)
	}
	low, err := padded("0")
	if _, odd := hex.DecodeString(digits + strings.Repeat("0", len(digits)%2)); err != nil || odd != nil || len(digits) < 8 || len(digits) > 32 {
		return nil, invalid(fmt.Sprintf("%q names no flow.", id), "Give the number that a list shows, or the first 8 or more characters of a flow's UUID.")
	}
	high, _ := padded("f") // as low
	const slack = 1000     // the clocks of a flow and of its UUID are read one after the other
	when := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
	q, err := ParseQuery(fmt.Sprintf(`req.created_at.gt:"%s" and req.created_at.lt:"%s"`, when(low-slack), when(high+slack)))
	if err != nil {
		return nil, err
	}
	for o := (store.Search{Query: q}); ; {
		found, err := s.Search(ctx, o)
		if err != nil {
			return nil, unreadable(ctx, err)
		}
		for _, stored := range found.Flows {
			if strings.HasPrefix(hex.EncodeToString(stored.Flow.ID[:]), digits) {
				return stored, nil
			}
		}
		if o.Before = found.Next; found.Next == 0 {
			return nil, unreadable(ctx, store.ErrNoFlow)
		}
	}
}

// DeleteFlows deletes the flows that a condition is true of, those before the
// cursor. It ends with ctx, and after some time: Next says then where to go on.
func DeleteFlows(ctx context.Context, s *store.Store, query, cursor string) (*FlowsDeleted, error) {
	return deleteByQuery(ctx, s, query, cursor, nil)
}

func deleteByQuery(ctx context.Context, s *store.Store, query, cursor string, see seeing) (*FlowsDeleted, error) {
	if strings.TrimSpace(query) == "" {
		return nil, invalid("Neither flows nor a query are named.", "Name ids, or a query; () deletes the whole history.")
	}
	out := &FlowsDeleted{Version: 1}
	for begin := time.Now(); ; {
		found, err := searchFlows(ctx, s, &FlowSearch{Query: query, Paging: Paging{Limit: maxPage, Cursor: cursor}}, see)
		if err != nil {
			return out, err
		}
		ids := make([]int64, 0, len(found.Flows))
		for _, stored := range found.Flows {
			ids = append(ids, stored.ID)
		}
		n, err := s.Delete(ctx, ids...)
		if out.Deleted += n; err != nil {
			return out, unreadable(ctx, err)
		}
		if found.Next == 0 {
			return out, nil
		}
		if cursor = strconv.FormatInt(found.Next, 10); time.Since(begin) > deleteFor {
			out.Next = cursor
			return out, nil
		}
	}
}

type flowID struct {
	ID string `json:"id" minLength:"1" maxLength:"40" doc:"The number of its row, or the beginning of its UUID."`
}

type getFlowParams struct {
	flowID
	Body   int  `json:"body,omitempty" minimum:"0" maximum:"1048576" doc:"How many bytes of each body are shown; none when absent."`
	Offset int  `json:"offset,omitempty" minimum:"0" maximum:"33554432" doc:"From which byte of each body, as it is shown."`
	Reveal bool `json:"reveal,omitempty" doc:"Show secrets, where Holdfast was started with --reveal-secrets."`
}

type deleteFlowsParams struct {
	IDs    []int64 `json:"ids,omitempty" maxItems:"10000" doc:"Numbers of rows."`
	Query  string  `json:"query,omitempty" maxLength:"65536" doc:"A condition in HTTPQL, in place of ids; () is true of every flow."`
	Cursor string  `json:"cursor,omitempty" maxLength:"40" doc:"Goes on where a deletion had to end: its next."`
	Reveal bool    `json:"reveal,omitempty" doc:"Ask the query about secrets too, where Holdfast was started with --reveal-secrets."`
}

func (d *Desk) history() (*store.Store, error) {
	if d.store == nil {
		return nil, &flow.Error{Status: 404, Reason: ReasonNoHistory, Detail: "This Holdfast has no project, so no history.", Next: "Start it by holdfast serve, which has one."}
	}
	return d.store, nil
}

func flowOperations() []Operation {
	return []Operation{
		of(Operation{Name: "flow.list", Doc: "List the flows of the history, or those that a condition in HTTPQL is true of, the newest first.", Danger: Read, Foreign: true, Reveals: true,
			Method: "GET", Path: "/flows", Tool: "flows.list", Command: "flow list"},
			func(ctx context.Context, d *Desk, p *FlowSearch) (*FlowPage, error) {
				s, err := d.history()
				if err == nil {
					err = d.mayReveal(p.Reveal)
				}
				if err != nil {
					return nil, err
				}
				known := d.secrets()
				return listFlows(ctx, s, p, d.see(known, p.Reveal), known)
			}),
		of(Operation{Name: "flow.get", Doc: "Show a flow: what the client wrote, what was sent, what was answered, and what was done in between.", Danger: Read, Foreign: true, Reveals: true,
			Method: "GET", Path: "/flows/{id}", Tool: "flows.get", Command: "flow show"}, getFlow),
		of(Operation{Name: "flow.trace", Doc: "Show what was done to a flow, step by step, and why.", Danger: Read, Foreign: true,
			Method: "GET", Path: "/flows/{id}/trace", Tool: "trace.flow", Command: "trace"},
			func(ctx context.Context, d *Desk, p *flowID) (*holdfast.TraceLine, error) {
				s, err := d.history()
				if err != nil {
					return nil, err
				}
				stored, err := FindFlow(ctx, s, p.ID)
				if err != nil {
					return nil, err
				}
				line := holdfast.LineOf(stored.Flow, stored.Rules)
				return &line, nil
			}),
		of(Operation{Name: "flow.delete", Doc: "Delete flows of the history, by their numbers or by a condition.", Danger: Destructive, Reveals: true,
			Method: "POST", Path: "/flows/delete", Tool: "flows.delete", Command: "flow delete"}, deleteFlows),
	}
}

func getFlow(ctx context.Context, d *Desk, p *getFlowParams) (*FlowDetail, error) {
	s, err := d.history()
	if err == nil {
		err = d.mayReveal(p.Reveal)
	}
	if err != nil {
		return nil, err
	}
	stored, err := FindFlow(ctx, s, p.ID)
	if err != nil {
		return nil, err
	}
	return detailFlow(stored, Window{p.Offset, p.Body}, d.secrets(), p.Reveal), nil
}

func deleteFlows(ctx context.Context, d *Desk, p *deleteFlowsParams) (*FlowsDeleted, error) {
	s, err := d.history()
	switch {
	case err != nil:
		return nil, err
	case len(p.IDs) > 0 && p.Query != "":
		return nil, invalid("Ids and a query are named.", "Name one of them.")
	case len(p.IDs) > maxIDs:
		return nil, invalid("Too many ids are named.", fmt.Sprintf("Name %d at most.", maxIDs))
	case len(p.IDs) == 0:
		if err := d.mayReveal(p.Reveal); err != nil {
			return nil, err
		}
		return deleteByQuery(ctx, s, p.Query, p.Cursor, d.see(d.secrets(), p.Reveal))
	}
	n, err := s.Delete(ctx, p.IDs...)
	return &FlowsDeleted{Version: 1, Deleted: n}, unreadable(ctx, err)
}
