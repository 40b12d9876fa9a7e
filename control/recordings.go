package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/session"
)

// The bounds of recordings; holdfast.MaxWatched bounds the flows of one.
const (
	keptRecordings = 32 // that are stopped
	defaultSettle  = 10 // seconds that a stop waits for flows under way
)

// ReasonRecordings is that a recording cannot begin.
const ReasonRecordings = "recording_refused"

// The states of a recording.
const (
	RecordingOn      = "recording"
	RecordingStopped = "stopped"
)

// RecordingFilter says which flows a recording has.
type RecordingFilter struct {
	Tool     string `json:"tool,omitempty" maxLength:"256" doc:"Only flows of this tool."`
	Identity string `json:"identity,omitempty" maxLength:"256" doc:"Only flows of this identity."`
	Host     string `json:"host,omitempty" maxLength:"255" doc:"Only flows to this host: a name, *.name, or an address."`
	Query    string `json:"query,omitempty" maxLength:"65536" doc:"Only flows that this condition in HTTPQL is true of."`
}

// Recording is which flows passed from its start to its stop.
type Recording struct {
	Version int       `json:"v" doc:"Of this shape: 1."`
	Name    string    `json:"name"`
	State   string    `json:"state" enum:"recording,stopped"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	RecordingFilter
	Count  int     `json:"count" doc:"How many flows it has; in lists also those of whose bodies the query was not asked yet."`
	Flows  []int64 `json:"flows,omitempty" doc:"Their numbers in the history, in the order in which they began; not in lists."`
	Under  int     `json:"under_way,omitempty" doc:"How many flows have begun and are not in the history yet."`
	Left   int     `json:"left,omitempty" doc:"How many were under way when the stop would not wait any longer, and are not in it."`
	Missed int     `json:"missed,omitempty" doc:"How many there were beyond the most that a recording has, 5000."`
	Unkept int     `json:"unkept,omitempty" doc:"How many the history could not keep."`

	order int
}

// recordings are those that go on, and the last that are stopped.
type recordings struct {
	mu     sync.Mutex
	all    []*recording // the oldest first
	number int          // of the last name that was made up
	order  int          // of the last one
}

type recording struct {
	watch *holdfast.Watch
	query *httpql.Query
	shown Recording // without what the watch knows; the recordings' mu guards it
	// judged says of flows whether the query is true of them, where the heads
	// did not tell.
	judged map[int64]bool
}

type startParams struct {
	Name string `json:"name,omitempty" maxLength:"100" doc:"What it is called; made up when absent. A stopped one of the same name is replaced."`
	RecordingFilter
}

type recordingParams struct {
	Name string `json:"name" minLength:"1" maxLength:"100" doc:"Of the recording; - is the last that was started."`
}

type stopParams struct {
	recordingParams
	Wait int `json:"wait,omitempty" minimum:"1" maximum:"60" doc:"How many seconds to wait for the flows that are under way; 10 when absent. Those that take longer are left out."`
}

func recordingOperations() []Operation {
	return []Operation{
		of(Operation{Name: "record.start", Doc: "Start to record: note which flows pass from now on, by their numbers in the history, to make a macro of.", Danger: Change,
			Method: "POST", Path: "/recordings", Tool: "macros.record_start", Command: "macro record start"}, startRecording),
		of(Operation{Name: "record.stop", Doc: "Stop a recording, wait for the flows that are under way, and list the flows that it has.", Danger: Change,
			Method: "POST", Path: "/recordings/{name}/stop", Tool: "macros.record_stop", Command: "macro record stop"}, stopRecording),
		of(Operation{Name: "record.status", Doc: "Show a recording, and the flows that it has so far.", Danger: Read,
			Method: "GET", Path: "/recordings/{name}", Tool: "macros.record_status", Command: "macro record status"},
			func(ctx context.Context, d *Desk, p *recordingParams) (*Recording, error) {
				r, err := d.recordings.find(p.Name)
				if err != nil {
					return nil, err
				}
				return d.showRecording(ctx, r)
			}),
		of(Operation{Name: "record.list", Doc: fmt.Sprintf("List the recordings: those that go on, and the last %d that are stopped.", keptRecordings), Danger: Read,
			Method: "GET", Path: "/recordings", Tool: "macros.record_list", Command: "macro record list"}, listRecordings),
	}
}

// find is the recording of a name; - is the last.
func (r *recordings) find(name string) (*recording, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == "-" && len(r.all) > 0 {
		return r.all[len(r.all)-1], nil
	}
	for _, one := range r.all {
		if one.shown.Name == name {
			return one, nil
		}
	}
	return nil, notFound(fmt.Sprintf("There is no recording %q.", name), "List the recordings, or start one.")
}

// wants says which flows a filter means when they begin.
func (d *Desk) wants(p *RecordingFilter) (func(*flow.Flow) bool, error) {
	who, err := d.maybe(p.Identity)
	if p.Identity == flow.Anonymous {
		who, err = p.Identity, nil
	}
	if err != nil {
		return nil, err
	}
	var hosts flow.HostPatterns
	if p.Host != "" {
		pattern, err := flow.ParseHostPattern(p.Host)
		if err != nil {
			return nil, invalid(fmt.Sprintf("host is no host: %v.", err), "Write a name, *.name, or an address.")
		}
		hosts = flow.HostPatterns{pattern}
	}
	byDefault, tool := d.defaultName(), p.Tool
	return func(f *flow.Flow) bool {
		speaks := f.Identity
		if speaks == "" {
			speaks = byDefault
		}
		return (tool == "" || strings.EqualFold(f.Tool, tool)) && (who == "" || who == speaks) && (hosts == nil || hosts.Match(f.Origin))
	}, nil
}

// judges leaves flows out whose heads say that the query is not true of them. What
// the bodies say is asked of the history: see showRecording.
func judges(q *httpql.Query) func(*flow.Flow) bool {
	return func(f *flow.Flow) bool {
		record := &flow.Record{Flow: f, RequestPresence: httpql.Pending, ResponsePresence: httpql.Pending, State: session.StateOf(f)}
		return q.Match(record) != httpql.False
	}
}

func startRecording(_ context.Context, d *Desk, p *startParams) (*Recording, error) {
	if _, err := d.history(); err != nil {
		return nil, err
	}
	if p.Name == "-" || strings.ContainsFunc(p.Name, func(c rune) bool { return c < ' ' || c == 0x7f || c == '/' }) {
		return nil, invalid("This cannot be the name of a recording.", "Write a word.")
	}
	want, err := d.wants(&p.RecordingFilter)
	if err != nil {
		return nil, err
	}
	one := &recording{judged: map[int64]bool{}}
	var judge func(*flow.Flow) bool
	if p.Query != "" {
		if one.query, err = ParseQuery(p.Query); err != nil {
			return nil, err
		}
		judge = judges(one.query)
	}
	r := &d.recordings
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.IndexFunc(r.all, func(other *recording) bool { return other.shown.Name == p.Name })
	if at >= 0 && r.all[at].shown.State == RecordingOn {
		return nil, &flow.Error{Status: 409, Reason: ReasonRecordings, Detail: fmt.Sprintf("The recording %q goes on already.", p.Name), Next: "Stop it, or give this one another name."}
	}
	switch one.watch, err = d.proxy.Watch(want, judge); {
	case errors.Is(err, holdfast.ErrNoHistory):
		return nil, &flow.Error{Status: 409, Reason: ReasonRecordings, Detail: "This Holdfast keeps no flows with their bodies.", Next: "Start it with: holdfast serve --history full"}
	case err != nil:
		return nil, &flow.Error{Status: 429, Reason: ReasonRecordings, Detail: fmt.Sprintf("%d recordings go on, the most that may.", holdfast.MaxWatches), Next: "Stop one."}
	}
	if at >= 0 {
		r.all = slices.Delete(r.all, at, at+1)
	}
	r.order++
	name := p.Name
	for taken := true; name == "" || p.Name == "" && taken; {
		r.number++
		name = fmt.Sprintf("recording-%d", r.number)
		taken = slices.ContainsFunc(r.all, func(other *recording) bool { return other.shown.Name == name })
	}
	one.shown = Recording{Version: 1, Name: name, State: RecordingOn, Began: moment(), RecordingFilter: p.RecordingFilter, order: r.order}
	r.all = append(r.all, one)
	out := one.shown
	return &out, nil
}

func stopRecording(ctx context.Context, d *Desk, p *stopParams) (*Recording, error) {
	one, err := d.recordings.find(p.Name)
	if err != nil {
		return nil, err
	}
	d.recordings.mu.Lock()
	if one.shown.State == RecordingOn {
		one.shown.State, one.shown.Ended = RecordingStopped, moment()
	}
	d.recordings.forget()
	d.recordings.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, time.Duration(cmp.Or(p.Wait, defaultSettle))*time.Second)
	defer cancel()
	one.watch.Stop(limit)
	return d.showRecording(ctx, one)
}

// forget drops the oldest that are stopped. mu is held.
func (r *recordings) forget() {
	over := 0
	for _, one := range r.all {
		if one.shown.State != RecordingOn {
			over++
		}
	}
	r.all = slices.DeleteFunc(r.all, func(one *recording) bool {
		if over <= keptRecordings || one.shown.State == RecordingOn {
			return false
		}
		over--
		return true
	})
}

// summary is a recording without its flows.
func (r *recordings) summary(one *recording) (Recording, holdfast.WatchedFlows) {
	flows := one.watch.Flows()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := one.shown
	out.Count, out.Under, out.Left, out.Missed, out.Unkept = len(flows.Rows), flows.Under, flows.Left, flows.Missed, flows.Unkept
	return out, flows
}

// showRecording shows a recording with the flows that its query is true of.
func (d *Desk) showRecording(ctx context.Context, one *recording) (*Recording, error) {
	out, flows := d.recordings.summary(one)
	out.Flows = flows.Rows
	if one.query != nil {
		s, err := d.history()
		if err != nil {
			return nil, err
		}
		out.Flows = nil
		for _, id := range flows.Rows {
			d.recordings.mu.Lock()
			is, known := one.judged[id]
			d.recordings.mu.Unlock()
			if !known {
				stored, err := s.Flow(ctx, id)
				if err != nil {
					if ctx.Err() != nil {
						return nil, ctx.Err()
					}
					continue // it was deleted since
				}
				is = one.query.Match(stored.Record()) == httpql.True
				d.recordings.mu.Lock()
				one.judged[id] = is
				d.recordings.mu.Unlock()
			}
			if is {
				out.Flows = append(out.Flows, id)
			}
		}
	}
	if out.Count = len(out.Flows); out.Flows == nil {
		out.Flows = []int64{}
	}
	return &out, nil
}

func listRecordings(_ context.Context, d *Desk, p *Paging) (*Page[Recording], error) {
	d.recordings.mu.Lock()
	all := slices.Clone(d.recordings.all)
	d.recordings.mu.Unlock()
	var shown []Recording
	for _, one := range all {
		summary, _ := d.recordings.summary(one)
		shown = append(shown, summary)
	}
	return paged(shown, *p, func(r *Recording) string { return fmt.Sprintf("%020d", r.order) })
}
