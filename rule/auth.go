package rule

import "github.com/holdfast-proxy/holdfast/flow"

// Auth is how requests are logged in by HTTP authentication: for which a rule
// is, or those of a step. It never changes.
type Auth struct {
	Scheme             string // one of flow.AuthSchemes
	Username, Password *Template
}

// Names are the variables that it needs.
func (a *Auth) Names() []string { return append(a.Username.Names(), a.Password.Names()...) }

// Fill puts the values of variables in. missing are those without a value;
// then there is no Auth.
func (a *Auth) Fill(lookup func(name string) (string, bool)) (filled *flow.Auth, missing []string) {
	username, missing := a.Username.Expand(lookup)
	password, more := a.Password.Expand(lookup)
	if missing = append(missing, more...); len(missing) > 0 {
		return nil, missing
	}
	return &flow.Auth{Scheme: a.Scheme, Username: username, Password: password}, nil
}
