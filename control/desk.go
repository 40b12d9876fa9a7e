package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/store"
)

// Desk is what operations work on. Any goroutine may use it.
type Desk struct {
	proxy   *holdfast.Holdfast
	reveal  bool
	version string
	trace   *Trace
	events  *Events
	runs    *runs

	recordings recordings
	store      *store.Store
	reload     func() (*holdfast.Reloaded, error)
}

// Setup is what a Desk is made of.
type Setup struct {
	Proxy   *holdfast.Holdfast
	Reveal  bool         // hand out secrets to those who ask for them
	Version string       // of the program
	Trace   *Trace       // where the proxy writes its trace
	Store   *store.Store // the project with the history; nil: none
	// Reload reads the configuration file again; nil: there is none.
	Reload func() (*holdfast.Reloaded, error)
	Events *Events // what Config.Changed and Config.Warn of the proxy tell
}

// New makes a Desk. Close it before the proxy is closed.
func New(s Setup) *Desk {
	d := &Desk{proxy: s.Proxy, reveal: s.Reveal, version: s.Version, trace: s.Trace, reload: s.Reload, events: s.Events, store: s.Store}
	d.runs = newRuns(s.Events)
	return d
}

// Close ends the runs that are under way, and waits for them.
func (d *Desk) Close() { d.runs.close() }

// Events is where those listen who want to hear what happens.
func (d *Desk) Events() *Events { return d.events }

// Proxy is the Holdfast that the desk is of.
func (d *Desk) Proxy() *holdfast.Holdfast { return d.proxy }

// defaultIdentity stands in paths for the identity that speaks where nobody is
// named.
const defaultIdentity = "-"

// who is the identity that a parameter means.
func (d *Desk) who(name string) (string, error) {
	engine := d.proxy.Engine()
	names := engine.Names()
	if name == "" || name == defaultIdentity {
		if name = d.proxy.Identity(); name == "" || name == flow.Anonymous {
			name = names[0]
		}
		return name, nil
	}
	if !slices.Contains(names, name) {
		return "", &flow.Error{Status: 404, Reason: flow.ReasonIdentity, Detail: fmt.Sprintf("There is no identity %q.", name),
			Next: "Name one of: " + known(names) + "; without a name it is " + shownName(d.defaultName()) + "."}
	}
	return name, nil
}

func (d *Desk) defaultName() string {
	name, _ := d.who("") // "" is always somebody
	return name
}

func shownName(name string) string {
	if name == "" {
		return "the only one there is"
	}
	return name
}

func known(names []string) string {
	if len(names) == 1 && names[0] == "" {
		return "none (the configuration names no identities)"
	}
	return strings.Join(names, ", ")
}

// mayReveal is an error where secrets are asked for that are not shown.
func (d *Desk) mayReveal(asked bool) error {
	if !asked || d.reveal {
		return nil
	}
	return &flow.Error{Status: 403, Reason: ReasonHidden, Detail: "This Holdfast does not show secrets.",
		Next: "Start it with: holdfast serve --reveal-secrets"}
}

// failed is a *flow.Error as an error, whose nil is nil.
func failed(err *flow.Error) error {
	if err == nil {
		return nil
	}
	return err
}

// Status is what holds for the whole.
type Status struct {
	Version    int                 `json:"v" doc:"Of this shape: 1."`
	Name       string              `json:"name" doc:"holdfast"`
	Program    string              `json:"version" doc:"Of the program."`
	Uptime     float64             `json:"uptime_s" doc:"For how many seconds it has been there."`
	Config     string              `json:"config" doc:"The configuration file; empty: none."`
	Identity   string              `json:"identity" doc:"Who requests speak for that name nobody."`
	Identities int                 `json:"identities"`
	Rules      int                 `json:"rules" doc:"That are switched on."`
	Listeners  []string            `json:"listeners" nullable:"false" doc:"Where clients come in."`
	Clients    int                 `json:"connections" doc:"With clients, open now."`
	States     map[string]int      `json:"sessions" doc:"How many sessions are in each state."`
	Totals     holdfast.Totals     `json:"totals"`
	History    *store.HistoryStats `json:"history,omitempty" doc:"What became of the flows that go to the history; missing where it is off."`
	Reveal     bool                `json:"reveal_secrets" doc:"Whether secrets are shown to those who ask."`
	Links      map[string]string   `json:"links,omitempty"`
}

// historyStats is nil where there is no history.
func (d *Desk) historyStats() *store.HistoryStats {
	stats, has := d.proxy.History()
	if !has {
		return nil
	}
	return &stats
}

type nothing struct{}

func statusOperations() []Operation {
	return []Operation{
		of(Operation{Name: "status", Doc: "Say what runs here, for how long, and what has happened so far.", Danger: Read,
			Method: "GET", Path: "/status", Tool: "status.show", Command: "status"},
			func(_ context.Context, d *Desk, _ *nothing) (*Status, error) {
				h := d.proxy
				st := &Status{Version: 1, Name: "holdfast", Program: d.version, Uptime: h.Uptime().Round(time.Millisecond).Seconds(), Config: h.File().Name,
					Identity: d.defaultName(), Identities: len(h.Engine().Names()), Rules: len(h.Engine().Rules().Rules()), Listeners: h.Places(),
					Clients: h.Connections(), States: map[string]int{}, Totals: h.Totals(), History: d.historyStats(), Reveal: d.reveal}
				for _, s := range h.Engine().Overview() {
					st.States[s.State]++
				}
				return st, nil
			}),
		of(Operation{Name: "metrics.summary", Doc: "Count what has happened so far, as /metrics does for a monitoring system.", Danger: Read,
			Method: "GET", Path: "/metrics/summary", Tool: "status.metrics", Command: "metrics"},
			func(_ context.Context, d *Desk, _ *nothing) (*Summary, error) {
				return &Summary{1, d.proxy.Totals(), d.proxy.Engine().Counts(), d.proxy.Connections(), d.trace.lost(), d.events.Listeners(), d.historyStats()}, nil
			}),
		of(Operation{Name: "identity.list", Doc: "List the identities: who Holdfast can be logged in as.", Danger: Read,
			Method: "GET", Path: "/identities", Tool: "identities.list", Command: "identity list"}, listIdentities),
	}
}

// Identity is who one can be logged in as.
type Identity struct {
	Name      string   `json:"name"`
	Default   bool     `json:"default,omitempty" doc:"Speaks for requests that name nobody."`
	Sessions  int      `json:"sessions" doc:"How many it has at a time."`
	States    []string `json:"states" nullable:"false" doc:"Of its sessions."`
	Variables []string `json:"variables" nullable:"false" doc:"Names alone."`
	Tokens    []string `json:"tokens" nullable:"false" doc:"Names of those that have a value."`
	Cookies   int      `json:"cookies" doc:"In its first session's jar."`
	TOTP      bool     `json:"totp,omitempty" doc:"Has one-time codes."`
}

func listIdentities(_ context.Context, d *Desk, p *Paging) (*Page[Identity], error) {
	engine := d.proxy.Engine()
	overview := engine.Overview()
	var all []Identity
	for _, name := range engine.Names() {
		i := Identity{Name: name, Default: name == d.defaultName(), Sessions: max(1, d.proxy.File().Identities[name].Pool.Sessions),
			States: []string{}, Variables: []string{}, Tokens: []string{}, TOTP: d.proxy.File().Identities[name].TOTP != nil}
		for _, st := range overview {
			if st.Identity == name {
				i.States = append(i.States, st.State)
			}
		}
		variables, _ := engine.Variables(name) // the engine has named it
		for _, v := range variables {
			i.Variables = append(i.Variables, v.Name)
		}
		tokens, _ := engine.Tokens(name)
		for _, t := range tokens {
			if !slices.Contains(i.Tokens, t.Name) {
				i.Tokens = append(i.Tokens, t.Name)
			}
		}
		cookies, _ := engine.Cookies(name)
		i.Cookies = len(cookies)
		all = append(all, i)
	}
	return paged(all, *p, func(i *Identity) string { return i.Name })
}
