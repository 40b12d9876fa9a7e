package holdfast

import (
	"context"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
)

// authenticate logs requests in by HTTP authentication, at the hosts for which
// the file says so of their identity. What a rule or a step says goes before.
func (e *edition) authenticate(next flow.Handler) flow.Handler {
	file := e.file
	any := false
	for _, i := range file.Identities {
		any = any || len(i.Auth) > 0
	}
	if !any {
		return next
	}
	return func(ctx context.Context, f *flow.Flow) error {
		if f.Auth == nil {
			f.Auth = authOf(file, f)
			defer func() { f.Auth = nil }() // who sends it again asks again
		}
		return next(ctx, f)
	}
}

func authOf(file *config.File, f *flow.Flow) *flow.Auth {
	name := f.Identity
	if name == "" && len(file.Order) > 0 { // the first one speaks where nobody is named
		name = file.Order[0]
	}
	identity := file.Identities[name]
	for _, a := range identity.Auth {
		if !a.Hosts.Match(f.Origin) || f.Keeps("header:authorization") {
			continue
		}
		filled, _ := a.Auth.Fill(func(name string) (string, bool) {
			if v, ok := identity.Variables[name]; ok {
				return v, true
			}
			v, ok := file.Variables[name]
			return v, ok
		})
		return filled
	}
	return nil
}
