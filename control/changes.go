package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
)

// Reasons of refusals of a configuration.
const (
	ReasonConfig  = "config_invalid" // it has mistakes
	ReasonRestart = "restart_needed" // it changes what holds as long as Holdfast runs
)

// Reloaded says what changed when another configuration began to hold. It is
// the data of an event of the type config, too.
type Reloaded struct {
	Version    int                 `json:"v" doc:"Of this shape: 1."`
	Number     uint64              `json:"number" doc:"Of configurations since Holdfast began; the first is 1."`
	Rules      holdfast.Difference `json:"rules"`
	Macros     holdfast.Difference `json:"macros"`
	Identities holdfast.Difference `json:"identities"`
	Keys       []string            `json:"keys" nullable:"false" doc:"Of the file beside these, that say something else than before."`
	GoOn       int                 `json:"sessions_going_on" doc:"Sessions that are as they were."`
	Anew       []string            `json:"sessions_anew" nullable:"false" doc:"Sessions that begin anew: their macros or credentials are others."`
	GaveUp     []string            `json:"sessions_given_up" nullable:"false" doc:"Sessions whose identity or rules are gone."`
	What       string              `json:"what" doc:"All of it in one line."`
}

func shownReload(r *holdfast.Reloaded) *Reloaded {
	return &Reloaded{1, r.Number, r.Rules, r.Macros, r.Identities, append([]string{}, r.Keys...), r.Sessions.GoOn,
		append([]string{}, r.Sessions.Anew...), append([]string{}, r.Sessions.GaveUp...), r.String()}
}

// Reloaded tells of a configuration: it is holdfast.Config.Reloaded.
func (e *Events) Reloaded(r *holdfast.Reloaded) { e.publish("config", shownReload(r)) }

// ConfigText is a configuration as one file.
type ConfigText struct {
	Version int    `json:"v" doc:"Of this shape: 1."`
	Text    string `json:"text" doc:"YAML. Secrets stand in it as they stand in the file."`
}

type textParams struct {
	Text string `json:"text" minLength:"1" maxLength:"1048576" doc:"A configuration, YAML or JSON."`
}

type entryParams struct {
	Text string `json:"text" minLength:"1" maxLength:"1048576" doc:"One macro or rule, as it stands in a configuration: YAML or JSON."`
}

type namedEntryParams struct {
	named
	entryParams
}

func changeOperations() []Operation {
	all := []Operation{
		of(Operation{Name: "config.put", Doc: "Have another configuration hold from now on, in the place of the file and of what was changed by hand. No connection is dropped; sessions that mean the same go on. The project keeps it until the file changes or is read again.", Danger: Destructive,
			Method: "PUT", Path: "/config", Tool: "config.put", Command: "config put"},
			func(_ context.Context, d *Desk, p *textParams) (*Reloaded, error) {
				return changed(d.proxy.Put(p.Text))
			}),
		of(Operation{Name: "config.reload", Doc: "Read the configuration file again, and have it hold from now on. What was changed by hand lies over it, but for what it says otherwise than before.", Danger: Change,
			Method: "POST", Path: "/config/reload", Tool: "config.reload", Command: "config reload"},
			func(_ context.Context, d *Desk, _ *nothing) (*Reloaded, error) {
				if d.reload == nil {
					return nil, notFound("This Holdfast was started without a configuration file.", "Send a configuration instead: config put.")
				}
				return changed(d.reload())
			}),
		of(Operation{Name: "config.export", Doc: "Write the configuration that holds as one file, with what was changed by hand.", Danger: Read, Reveals: true,
			Method: "GET", Path: "/config/export", Tool: "config.export", Command: "config export"},
			func(_ context.Context, d *Desk, _ *nothing) (*ConfigText, error) {
				if err := d.mayReveal(true); err != nil { // credentials may stand in it
					return nil, err
				}
				text, err := d.proxy.File().Text()
				if err != nil {
					return nil, asError(err)
				}
				return &ConfigText{1, string(text)}, nil
			}),
	}
	kept := " It lies over the file, and the project keeps it."
	all = append(all,
		of(Operation{Name: "macro.create", Doc: "Add a macro to the configuration that holds: as it is written, or made of flows, with their credentials as variables of the identity." + kept, Danger: Change, Foreign: true,
			Method: "POST", Path: "/macros", Tool: "macros.create_macro session.create_macro", Command: "macro create"}, createMacro),
		of(Operation{Name: "rule.create", Doc: "Add a rule to the configuration that holds." + kept, Danger: Change,
			Method: "POST", Path: "/rules", Tool: "rules.create macros.create_rule", Command: "rule create"},
			func(_ context.Context, d *Desk, p *entryParams) (*Reloaded, error) {
				return changed(d.proxy.Change(holdfast.Edit{Kind: config.EntryRule, Text: p.Text}))
			}))
	all = append(all, entryOperations(config.EntryMacro, "macros.update_macro", "macros.delete_macro session.delete_macro")...)
	return append(all, entryOperations(config.EntryRule, "rules.update macros.update_rule", "rules.delete macros.delete_rule")...)
}

// entryOperations are those that change macros that there are, or rules.
func entryOperations(kind, update, remove string) []Operation {
	path := "/" + kind + "s/{name}"
	return []Operation{
		of(Operation{Name: kind + ".update", Doc: "Put a " + kind + " in the place of the one with that name. It lies over the file, and the project keeps it.", Danger: Change,
			Method: "PUT", Path: path, Tool: update, Command: kind + " update"},
			func(_ context.Context, d *Desk, p *namedEntryParams) (*Reloaded, error) {
				return changed(d.proxy.Change(holdfast.Edit{Kind: kind, Name: d.entry(kind, p.Name), Text: p.Text}))
			}),
		of(Operation{Name: kind + ".delete", Doc: "Take a " + kind + " out of the configuration that holds. The file stays as it is; the project keeps that it is gone.", Danger: Destructive,
			Method: "DELETE", Path: path, Tool: remove, Command: kind + " delete"},
			func(_ context.Context, d *Desk, p *named) (*Reloaded, error) {
				return changed(d.proxy.Change(holdfast.Edit{Kind: kind, Name: d.entry(kind, p.Name)}))
			}),
	}
}

// entry is the name of a macro or a rule that is named by its ID.
func (d *Desk) entry(kind, name string) string {
	f := d.proxy.File()
	if kind == config.EntryMacro {
		if m, err := d.macro(name); err == nil {
			return m.Name
		}
		return name
	}
	for i := range f.Rules {
		if f.Rules[i].ID == name {
			return f.Rules[i].Name
		}
	}
	return name
}

// changed is what a change comes to.
func changed(r *holdfast.Reloaded, err error) (*Reloaded, error) {
	var mistakes config.Errors
	var fixed *holdfast.RestartError
	switch {
	case err == nil:
		return shownReload(r), nil
	case errors.As(err, &mistakes):
		lines := strings.Split(mistakes.Error(), "\n")
		return nil, &flow.Error{Status: 422, Reason: ReasonConfig, Cause: err,
			Detail: fmt.Sprintf("The configuration has %d mistakes, and the one before still holds:\n%s", len(lines), strings.Join(lines, "\n")), Next: "Mend them; config check finds them, too."}
	case errors.As(err, &fixed):
		return nil, &flow.Error{Status: 409, Reason: ReasonRestart, Cause: err,
			Detail: "The configuration before still holds: " + strings.Join(fixed.Keys, ", ") + " cannot be changed while Holdfast runs.", Next: "Restart holdfast with the new configuration, or leave these keys as they are."}
	}
	var known *flow.Error
	if errors.As(err, &known) {
		return nil, known
	}
	return nil, &flow.Error{Status: 422, Reason: ReasonConfig, Cause: err, Detail: "The configuration before still holds: " + err.Error() + ".", Next: "Correct the configuration."}
}
