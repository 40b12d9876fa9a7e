package holdfast

import (
	"fmt"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/session"
)

// Offline is the engine that New makes of a configuration, without a way to
// send anything: for session.Engine.Explain. identity is who requests speak for
// that name nobody, "" the one that New would take; it is returned. Close the
// engine after use.
func Offline(file *config.File, identity string) (*session.Engine, string, error) {
	c, identity, err := engineConfig(file, identity)
	if err != nil {
		return nil, "", err
	}
	c.Send, c.Browser = session.Refuse, noBrowser
	engine, err := session.New(c)
	return engine, identity, err
}

// engineConfig is the configuration as the engine knows it, and who requests
// speak for that name nobody.
func engineConfig(file *config.File, identity string) (session.Config, string, error) {
	var identities []session.Identity
	for _, name := range file.Order {
		i := file.Identities[name]
		identities = append(identities, session.Identity{Name: name, Variables: i.Variables, Cookies: i.Cookies,
			Pool: session.Pool{Sessions: i.Pool.Sessions, Wait: i.Pool.Wait, Exclusive: i.Pool.Exclusive}, TOTP: i.TOTP})
	}
	if len(identities) == 1 && identity == "" {
		identity = identities[0].Name
	}
	if identity != "" {
		if _, ok := file.Identities[identity]; !ok && identity != session.Anonymous {
			return session.Config{}, "", fmt.Errorf("there is no identity %q; the configuration has: %s", identity, list(file.Order))
		}
	}
	identities, err := importCookies(identities, identity, file.CookieJar.Import)
	if err != nil {
		return session.Config{}, "", err
	}
	return session.Config{
		Rules:      file.Set,
		Macros:     file.Macros,
		Variables:  file.Variables,
		Identities: identities,
		Lockout:    session.Lockout{Failures: file.Lockout.Failures, Window: file.Lockout.Window},
		Feed:       session.Feed{Tools: file.CookieJar.Tools, Observe: file.CookieJar.Observe, Ruled: file.CookieJar.Ruled},
		Limits: session.Limits{
			ResendBody:  file.Limits.ResendBody,
			MemoryBody:  file.Limits.MemoryBody,
			EditedBody:  file.Limits.EditedBody,
			JudgedBody:  file.Limits.JudgedBody,
			Memory:      file.Limits.Memory,
			Disk:        file.Limits.Disk,
			Hold:        file.Limits.Hold,
			Wait:        file.Limits.Wait,
			Unreachable: file.Limits.Unreachable,
			Script:      file.Limits.Script,
		},
		Credentials: file.Credentials,
	}, identity, nil
}
