package control

import (
	"context"
	"fmt"

	"github.com/holdfast-proxy/holdfast/session"
)

// Secret is a token or a variable.
type Secret struct {
	Name    string  `json:"name"`
	Session int     `json:"session,omitempty" doc:"Of which of the identity's sessions, where it has several."`
	Bytes   int     `json:"bytes" doc:"How long the value is."`
	Value   *string `json:"value,omitempty" doc:"Only with reveal."`
}

func secrets(values []session.Value, reveal bool) []Secret {
	var all []Secret
	for _, v := range values {
		s := Secret{Name: v.Name, Session: v.Session, Bytes: len(v.Value)}
		if reveal {
			s.Value = &v.Value
		}
		all = append(all, s)
	}
	return all
}

func secretKey(s *Secret) string { return fmt.Sprintf("%06d\x00%s", s.Session, s.Name) }

type secretsParams struct {
	OfIdentity
	Reveal bool `json:"reveal,omitempty" doc:"Show the values, where Holdfast was started with --reveal-secrets."`
	Paging
}

type tokenParams struct {
	Name string `json:"name" minLength:"1" maxLength:"256" doc:"Of the token."`
	OfSession
}

type setTokenParams struct {
	tokenParams
	Value string `json:"value" maxLength:"65536" doc:"What requests carry from now on."`
}

func tokenOperations() []Operation {
	return []Operation{
		of(Operation{Name: "token.list", Doc: "List the tokens of an identity.", Danger: Read, Reveals: true,
			Method: "GET", Path: "/tokens", Tool: "session.tokens", Command: "token list"},
			func(_ context.Context, d *Desk, p *secretsParams) (*Page[Secret], error) {
				who, err := d.whoRevealed(p.Identity, p.Reveal)
				if err != nil {
					return nil, err
				}
				values, failure := d.proxy.Engine().Tokens(who)
				if failure != nil {
					return nil, failure
				}
				return paged(secrets(values, p.Reveal), p.Paging, secretKey)
			}),
		of(Operation{Name: "token.set", Doc: "Give a token a value, such as one copied out of a browser. Sessions that use it count as new ones, of which nothing is known.", Danger: Change,
			Method: "PUT", Path: "/tokens/{name}", Tool: "session.set_token", Command: "token set"},
			func(_ context.Context, d *Desk, p *setTokenParams) (*Done, error) {
				who, err := d.who(p.Identity)
				if err != nil {
					return nil, err
				}
				if failure := d.proxy.Engine().SetToken(who, p.Session, p.Name, p.Value); failure != nil {
					return nil, failure
				}
				return &Done{1, 1, "token " + p.Name + " is set for " + title(who)}, nil
			}),
		of(Operation{Name: "token.delete", Doc: "Take a token's value away. A session that uses it is recovered before its next request.", Danger: Destructive,
			Method: "DELETE", Path: "/tokens/{name}", Tool: "session.delete_token", Command: "token delete"},
			func(_ context.Context, d *Desk, p *tokenParams) (*Done, error) {
				who, err := d.who(p.Identity)
				if err != nil {
					return nil, err
				}
				had, failure := d.proxy.Engine().DeleteToken(who, p.Session, p.Name)
				if failure != nil {
					return nil, failure
				}
				if !had {
					return nil, notFound(fmt.Sprintf("Token %q of %s has no value.", p.Name, title(who)), "List the tokens to see their names.")
				}
				return &Done{1, 1, "token " + p.Name + " is gone for " + title(who)}, nil
			}),
	}
}

func (d *Desk) whoRevealed(identity string, reveal bool) (string, error) {
	if err := d.mayReveal(reveal); err != nil {
		return "", err
	}
	return d.who(identity)
}

type variablesParams struct {
	OfIdentity
	Global bool `json:"global,omitempty" doc:"Those that every identity has, in place of an identity's."`
	Reveal bool `json:"reveal,omitempty" doc:"Show the values, where Holdfast was started with --reveal-secrets."`
	Paging
}

type variableParams struct {
	Name string `json:"name" minLength:"1" maxLength:"256" doc:"Of the variable."`
	OfIdentity
	Global bool `json:"global,omitempty" doc:"The one of all identities, in place of an identity's own."`
}

type setVariableParams struct {
	variableParams
	Value string `json:"value" maxLength:"65536"`
}

func variableOperations() []Operation {
	return []Operation{
		of(Operation{Name: "variable.list", Doc: "List the variables of an identity, global ones included.", Danger: Read, Reveals: true,
			Method: "GET", Path: "/variables", Tool: "variables.list", Command: "variable list"},
			func(_ context.Context, d *Desk, p *variablesParams) (*Page[Secret], error) {
				who, err := d.whoRevealed(p.Identity, p.Reveal)
				if err != nil {
					return nil, err
				}
				values := d.proxy.Engine().Globals()
				if !p.Global {
					own, failure := d.proxy.Engine().Variables(who)
					if failure != nil {
						return nil, failure
					}
					values = own
				}
				return paged(secrets(values, p.Reveal), p.Paging, secretKey)
			}),
		of(Operation{Name: "variable.set", Doc: "Give a variable a value. The configuration file stays as it is; the project keeps the value, until the file says something else of the variable.", Danger: Change,
			Method: "PUT", Path: "/variables/{name}", Tool: "variables.set", Command: "variable set"},
			func(_ context.Context, d *Desk, p *setVariableParams) (*Done, error) {
				_, err := d.changeVariable(&p.variableParams, &p.Value)
				if err != nil {
					return nil, err
				}
				return &Done{1, 1, "variable " + p.Name + " is set"}, nil
			}),
		of(Operation{Name: "variable.delete", Doc: "Take a variable away; the project keeps that it is gone. A global one of the same name shows then.", Danger: Destructive,
			Method: "DELETE", Path: "/variables/{name}", Tool: "variables.delete", Command: "variable delete"},
			func(_ context.Context, d *Desk, p *variableParams) (*Done, error) {
				had, err := d.changeVariable(p, nil)
				if err != nil {
					return nil, err
				}
				if !had {
					return nil, notFound(fmt.Sprintf("There is no such variable %q.", p.Name), "List the variables to see their names; global ones are deleted with global.")
				}
				return &Done{1, 1, "variable " + p.Name + " is gone"}, nil
			}),
	}
}

func (d *Desk) changeVariable(p *variableParams, value *string) (had bool, err error) {
	who, err := d.who(p.Identity)
	if err != nil {
		return false, err
	}
	had, failure := d.proxy.SetVariable(who, p.Global, p.Name, value)
	return had, failed(failure)
}
