package control

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// Session is the live login of one identity, with its state.
type Session = session.Status

// Whose says which identity is meant.
type Whose struct {
	Identity string `json:"identity" maxLength:"256" doc:"Its name; - is the one that speaks where nobody is named."`
}

// OfIdentity says which identity is meant, where none has to be.
type OfIdentity struct {
	Identity string `json:"identity,omitempty" maxLength:"256" doc:"Its name; absent or -: the one that speaks where nobody is named."`
}

// OfSession says which session of an identity is meant.
type OfSession struct {
	OfIdentity
	Session int `json:"session,omitempty" minimum:"0" maximum:"64" doc:"Which of the identity's sessions, from 1, where it has several."`
}

type sessionsParams struct {
	Identity string `json:"identity,omitempty" maxLength:"256" doc:"Only of this one."`
	State    string `json:"state,omitempty" enum:"unknown,alive,dead,recovering,locked" doc:"Only those in this state."`
	Paging
}

// Sessions are those of one identity.
type Sessions struct {
	Version  int       `json:"v" doc:"Of this shape: 1."`
	Identity string    `json:"identity"`
	Sessions []Session `json:"sessions" nullable:"false"`
}

// Done says how much an operation changed.
type Done struct {
	Version int    `json:"v" doc:"Of this shape: 1."`
	Changed int    `json:"changed" doc:"How many things are other than before."`
	What    string `json:"what" doc:"The same in words."`
}

func sessionOperations() []Operation {
	return []Operation{
		of(Operation{Name: "session.list", Doc: "List the sessions with state, generation, last login, expected end and locks.", Danger: Read,
			Method: "GET", Path: "/sessions", Tool: "session.status", Command: "session list"},
			func(_ context.Context, d *Desk, p *sessionsParams) (*Page[Session], error) {
				who, err := d.maybe(p.Identity)
				if err != nil {
					return nil, err
				}
				var all []Session
				for _, s := range d.proxy.Engine().Overview() {
					if (p.Identity == "" || s.Identity == who) && (p.State == "" || s.State == p.State) {
						all = append(all, s)
					}
				}
				return paged(all, p.Paging, func(s *Session) string {
					return fmt.Sprintf("%s\x00%06d\x00%s", s.Identity, s.Session, strings.Join(s.Recovery, ","))
				})
			}),
		of(Operation{Name: "session.get", Doc: "Show the sessions of one identity.", Danger: Read,
			Method: "GET", Path: "/sessions/{identity}", Tool: "session.get", Command: "session status"},
			func(_ context.Context, d *Desk, p *Whose) (*Sessions, error) {
				who, err := d.who(p.Identity)
				if err != nil {
					return nil, err
				}
				return d.sessions(who), nil
			}),
		of(Operation{Name: "session.refresh", Doc: "Make new sessions of an identity now, by its recoveries; a login that fails counts for the lockout.", Danger: Change, Runs: true,
			Method: "POST", Path: "/sessions/{identity}/refresh", Tool: "session.refresh", Command: "session refresh"},
			func(_ context.Context, d *Desk, p *waitParams) (*Run, error) {
				who, err := d.who(p.Identity)
				if err != nil {
					return nil, err
				}
				return d.runs.start("session.refresh", who, "", func(ctx context.Context, r *Run) error {
					n, failed := d.proxy.Engine().Refresh(ctx, who)
					if failed != nil {
						return failed
					}
					if n == 0 {
						return &flow.Error{Status: 409, Reason: flow.ReasonRecovery, Detail: "No rule that is switched on says how a session of " + title(who) + " is made.",
							Next: "Give a rule reauth_macro, or switch it on."}
					}
					r.Sessions = d.sessions(who).Sessions
					return nil
				})
			}),
		of(Operation{Name: "session.unlock", Doc: "Let an identity log in again after too many failed logins. Correct the credentials first: the account may count too.", Danger: Destructive,
			Method: "POST", Path: "/sessions/{identity}/unlock", Tool: "session.unlock", Command: "session unlock"},
			func(_ context.Context, d *Desk, p *Whose) (*Done, error) {
				who, err := d.who(p.Identity)
				if err != nil {
					return nil, err
				}
				n, err := d.proxy.Engine().Unlock(who)
				if err != nil {
					return nil, &flow.Error{Status: 500, Reason: ReasonInternal, Detail: "The count of failed logins cannot be written.", Cause: err, Next: "See whether the home directory can be written to."}
				}
				if n == 0 {
					return &Done{1, 0, "nothing was locked for " + title(who)}, nil
				}
				return &Done{1, n, "unlocked"}, nil
			}),
		of(Operation{Name: "session.forget", Doc: "Drop the tokens and cookies of an identity, so that its next request logs in anew. The application hears nothing of it.", Danger: Destructive,
			Method: "DELETE", Path: "/sessions/{identity}", Tool: "session.forget", Command: "session forget"},
			func(_ context.Context, d *Desk, p *Whose) (*Done, error) {
				who, err := d.who(p.Identity)
				if err != nil {
					return nil, err
				}
				n, failure := d.proxy.Engine().Forget(who)
				return &Done{1, n, "the sessions of " + title(who) + " are forgotten"}, failed(failure)
			}),
	}
}

type waitParams struct {
	Identity string `json:"identity" maxLength:"256" doc:"Its name; - is the one that speaks where nobody is named."`
}

// maybe is who, where the parameter may be absent and mean everybody.
func (d *Desk) maybe(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	return d.who(name)
}

func title(identity string) string {
	if identity == "" {
		return "the default identity"
	}
	return fmt.Sprintf("identity %q", identity)
}

func (d *Desk) sessions(who string) *Sessions {
	out := &Sessions{Version: 1, Identity: who, Sessions: []Session{}}
	for _, s := range d.proxy.Engine().Overview() {
		if s.Identity == who {
			out.Sessions = append(out.Sessions, s)
		}
	}
	return out
}
