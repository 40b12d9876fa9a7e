package control

import (
	"cmp"
	"context"
	"fmt"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro/derive"
)

// ReasonConflict is that there is something of that name already.
const ReasonConflict = "conflict"

// derivedName is what a macro is called that is made of flows and has no name.
const derivedName = "login"

type createMacroParams struct {
	Text    string  `json:"text,omitempty" maxLength:"1048576" doc:"One macro, as it stands in a configuration: YAML or JSON. Either this or flow_ids."`
	FlowIDs []int64 `json:"flow_ids,omitempty" maxItems:"2000" doc:"Numbers of flows of the history, to make the macro of: a login, and requests that use what it brought."`
	Name    string  `json:"name,omitempty" maxLength:"100" doc:"Of a macro that is made of flows; login when absent."`
	OfIdentity
	Values map[string]string `json:"values,omitempty" doc:"With flow_ids: credentials that were typed, by the names of their variables, such as USER and PASS, where their fields do not tell."`
}

// Created says what changed when a macro was added.
type Created struct {
	Reloaded
	Derived *Derived `json:"derived,omitempty" doc:"How the macro was made of flows."`
}

func createMacro(ctx context.Context, d *Desk, p *createMacroParams) (*Created, error) {
	switch {
	case (p.Text == "") == (len(p.FlowIDs) == 0):
		return nil, invalid("Either text or flow_ids must be given.", "Write the macro, or name flows of the history that log in.")
	case p.Text != "" && (p.Name != "" || p.Identity != "" || len(p.Values) > 0):
		return nil, invalid("With text there is no name, identity or values beside it.", "Write the name into the text.")
	case p.Text != "":
		r, err := changed(d.proxy.Change(holdfast.Edit{Kind: config.EntryMacro, Text: p.Text}))
		if err != nil {
			return nil, err
		}
		return &Created{Reloaded: *r}, nil
	}
	if err := bounded(p.Values); err != nil {
		return nil, err
	}
	who, err := d.free(p.Name, p.Identity)
	if err != nil {
		return nil, err
	}
	r, err := d.recorded(ctx, &FlowsChoice{Flows: p.FlowIDs})
	if err != nil {
		return nil, err
	}
	out := &Created{}
	out.Derived, err = drafted(ctx, r, derive.Options{Name: p.Name, Values: p.Values}, nil, false, func(draft *derive.Draft) (string, error) {
		reloaded, err := d.save(draft, who)
		if err != nil {
			return "", err
		}
		out.Reloaded = *reloaded
		return reloaded.What, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// free is the identity that a macro is saved for, where its name is not taken.
func (d *Desk) free(name, identity string) (who string, err error) {
	name = cmp.Or(name, derivedName)
	if _, err := d.macro(name); err == nil {
		return "", &flow.Error{Status: 409, Reason: ReasonConflict, Detail: fmt.Sprintf("There is a macro %q already.", name), Next: "Give this one another name, or delete that one first."}
	}
	return d.who(identity)
}

// saving is what saves a draft, nil where that is not wanted.
func (d *Desk) saving(wanted bool, name, identity string) (func(*derive.Draft) (string, error), error) {
	if !wanted {
		return nil, nil
	}
	who, err := d.free(name, identity)
	if err != nil {
		return nil, err
	}
	return func(draft *derive.Draft) (string, error) {
		reloaded, err := d.save(draft, who)
		if err != nil {
			return "", err
		}
		return reloaded.What, nil
	}, nil
}

// save has the macro of a draft be part of the configuration that holds. Its
// credentials become variables of the identity, what else it needs everybody's.
// A variable that is there with the same value is used; an origin whose name has
// another value gets another name, and credentials that are others are an error.
func (d *Desk) save(draft *derive.Draft, who string) (*Reloaded, error) {
	f := d.proxy.File()
	values, failure := d.proxy.Engine().Variables(who)
	if failure != nil {
		return nil, failure
	}
	live := map[string]string{}
	for _, v := range values {
		live[v.Name] = v.Value
	}
	written := VariablesOf(f, who)
	var edits []holdfast.Edit
	for _, v := range draft.Variables {
		value, there := live[v.Name]
		switch {
		case there && value == v.Value:
			if _, kept := written[v.Name]; kept {
				continue
			}
		case there && v.Secret:
			return nil, &flow.Error{Status: 409, Reason: ReasonConflict, Detail: fmt.Sprintf("The variable %s of %s has another value than the flows.", v.Name, title(who)),
				Next: "Name the identity whose credentials they are, or give the value another name in values."}
		case there:
			name := freeName(v.Name, live, draft)
			draft.Rename(v.Name, name)
			v.Name = name
		}
		e := holdfast.Edit{Kind: config.EntryVariable, Name: v.Name, Text: v.Value}
		if v.Secret {
			e.Identity = who
		}
		edits = append(edits, e)
	}
	text, err := draft.MacroYAML()
	if err != nil {
		return nil, internal("a macro that is no YAML")
	}
	return changed(d.proxy.Change(append(edits, holdfast.Edit{Kind: config.EntryMacro, Text: string(text)})...))
}

// freeName is a name that neither the variables nor the draft have.
func freeName(name string, live map[string]string, draft *derive.Draft) string {
	for n := 2; ; n++ {
		other := fmt.Sprintf("%s_%d", name, n)
		_, taken := live[other]
		if _, drafted := draft.Lookup(other); !taken && !drafted {
			return other
		}
	}
}
