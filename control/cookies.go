package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

// Cookie is one cookie of an identity's jar.
type Cookie struct {
	ID          uint64    `json:"id" doc:"Of this jar."`
	Name        string    `json:"name"`
	Domain      string    `json:"domain" doc:"With a leading dot where it is for the hosts below too."`
	Path        string    `json:"path"`
	Secure      bool      `json:"secure,omitempty"`
	HTTPOnly    bool      `json:"http_only,omitempty"`
	Partitioned bool      `json:"partitioned,omitempty"`
	SameSite    string    `json:"same_site,omitempty"`
	Expires     time.Time `json:"expires,omitzero"`
	Created     time.Time `json:"created"`
	Source      string    `json:"source" doc:"response, request, hand or file."`
	Bytes       int       `json:"bytes" doc:"How long the value is."`
	Value       *string   `json:"value,omitempty" doc:"Only with reveal."`
}

func shownCookie(c *jar.Cookie, reveal bool) Cookie {
	out := Cookie{ID: c.ID, Name: c.Name, Domain: c.Domain, Path: c.Path, Secure: c.Secure, HTTPOnly: c.HTTPOnly, Partitioned: c.Partitioned,
		SameSite: string(c.SameSite), Expires: c.Expires, Created: c.Created, Source: string(c.Source), Bytes: len(c.Value)}
	if !c.HostOnly {
		out.Domain = "." + c.Domain
	}
	if reveal {
		out.Value = &c.Value
	}
	return out
}

type cookiesParams struct {
	OfSession
	Domain string `json:"domain,omitempty" maxLength:"255" doc:"Only those of this domain and the hosts below it."`
	Reveal bool   `json:"reveal,omitempty" doc:"Show the values, where Holdfast was started with --reveal-secrets."`
	Paging
}

type cookieParams struct {
	ID uint64 `json:"id" doc:"As the list has it."`
	OfSession
}

type getCookieParams struct {
	cookieParams
	Reveal bool `json:"reveal,omitempty" doc:"Show the value, where Holdfast was started with --reveal-secrets."`
}

type setCookieParams struct {
	OfSession
	Name     string    `json:"name" maxLength:"4096"`
	Value    string    `json:"value" maxLength:"8192"`
	Domain   string    `json:"domain" minLength:"1" maxLength:"255" doc:"With a leading dot: for the hosts below too."`
	Path     string    `json:"path,omitempty" maxLength:"1024" doc:"/ when absent."`
	Secure   bool      `json:"secure,omitempty"`
	HTTPOnly bool      `json:"http_only,omitempty"`
	SameSite string    `json:"same_site,omitempty" enum:"strict,lax,none"`
	Expires  time.Time `json:"expires,omitzero" required:"false" doc:"Absent: no end. In the past: the cookie is removed."`
}

type clearCookiesParams struct {
	OfSession
	Domain string `json:"domain,omitempty" maxLength:"255" doc:"Only those of this domain and the hosts below it."`
}

// MaxCookieText bounds a file of cookies that is imported, in bytes.
const MaxCookieText = 16 << 20

type importCookiesParams struct {
	OfSession
	Text string `json:"text" maxLength:"16777216" doc:"A cookies.txt, or the JSON of an export."`
}

type exportCookiesParams struct {
	OfSession
	Format string `json:"format,omitempty" enum:"json,netscape" doc:"netscape, which is a cookies.txt, when absent."`
}

// Imported says what became of cookies.
type Imported struct {
	Version  int      `json:"v" doc:"Of this shape: 1."`
	Taken    int      `json:"taken"`
	Problems []string `json:"problems" nullable:"false" doc:"Cookies that were left out, by line, and why; without values."`
}

// Exported is a file of cookies: it holds secrets.
type Exported struct {
	Version  int      `json:"v" doc:"Of this shape: 1."`
	Text     string   `json:"text"`
	Problems []string `json:"problems" nullable:"false" doc:"Cookies that the format has no place for."`
}

func cookieOperations() []Operation {
	return []Operation{
		of(Operation{Name: "cookie.list", Doc: "List the cookies of an identity's jar, the oldest first.", Danger: Read, Foreign: true, Reveals: true,
			Method: "GET", Path: "/cookies", Tool: "cookies.list", Command: "cookie list"}, listCookies),
		of(Operation{Name: "cookie.get", Doc: "Show one cookie.", Danger: Read, Foreign: true, Reveals: true,
			Method: "GET", Path: "/cookies/{id}", Tool: "cookies.get", Command: "cookie get"},
			func(_ context.Context, d *Desk, p *getCookieParams) (*Cookie, error) {
				if err := d.mayReveal(p.Reveal); err != nil {
					return nil, err
				}
				_, c, err := d.cookie(&p.cookieParams)
				if err != nil {
					return nil, err
				}
				shown := shownCookie(&c, p.Reveal)
				return &shown, nil
			}),
		of(Operation{Name: "cookie.set", Doc: "Put a cookie into an identity's jar; one of the same name, domain and path is replaced.", Danger: Change,
			Method: "POST", Path: "/cookies", Tool: "cookies.set", Command: "cookie set"}, setCookie),
		of(Operation{Name: "cookie.delete", Doc: "Remove a cookie. Answers to earlier requests do not bring it back.", Danger: Destructive,
			Method: "DELETE", Path: "/cookies/{id}", Tool: "cookies.delete", Command: "cookie delete"},
			func(_ context.Context, d *Desk, p *cookieParams) (*Done, error) {
				j, c, err := d.cookie(p)
				if err != nil {
					return nil, err
				}
				defer d.keep(&p.OfSession)
				if _, there := j.Delete(c.ID, d.proxy.Engine().Sequence()); !there {
					return nil, notFound(fmt.Sprintf("There is no cookie %d any more.", p.ID), "List the cookies to see their ids.")
				}
				return &Done{1, 1, "cookie " + c.Name + " is gone"}, nil
			}),
		of(Operation{Name: "cookie.clear", Doc: "Remove all cookies of an identity's jar, or those of one domain.", Danger: Destructive,
			Method: "DELETE", Path: "/cookies", Tool: "cookies.clear", Command: "cookie clear"},
			func(_ context.Context, d *Desk, p *clearCookiesParams) (*Done, error) {
				j, err := d.jar(&p.OfSession)
				if err != nil {
					return nil, err
				}
				defer d.keep(&p.OfSession)
				n := len(j.Clear(strings.TrimPrefix(p.Domain, "."), d.proxy.Engine().Sequence()))
				return &Done{1, n, fmt.Sprintf("%d cookies are gone", n)}, nil
			}),
		of(Operation{Name: "cookie.import", Doc: "Put the cookies of a file into an identity's jar.", Danger: Change,
			Method: "POST", Path: "/cookies/import", Tool: "cookies.import", Command: "cookie import"},
			func(_ context.Context, d *Desk, p *importCookiesParams) (*Imported, error) {
				j, err := d.jar(&p.OfSession)
				if err != nil {
					return nil, err
				}
				defer d.keep(&p.OfSession)
				cookies, problems := jar.Decode([]byte(p.Text))
				out := &Imported{Version: 1, Problems: worded(problems)}
				for _, c := range j.Import(cookies, time.Now()) {
					switch c.Kind {
					case jar.Refused:
						out.Problems = append(out.Problems, c.String())
					case jar.Evicted:
					default:
						out.Taken++
					}
				}
				return out, nil
			}),
		of(Operation{Name: "cookie.export", Doc: "Write the cookies of an identity's jar as a file. They are secrets: Holdfast must have been started with --reveal-secrets.", Danger: Read, Reveals: true,
			Method: "GET", Path: "/cookies/export", Tool: "cookies.export", Command: "cookie export"}, exportCookies),
	}
}

const maxProblems = 100

func worded(problems []jar.Problem) []string {
	out := []string{}
	for i, p := range problems {
		if i == maxProblems {
			return append(out, fmt.Sprintf("and %d more", len(problems)-i))
		}
		out = append(out, p.String())
	}
	return out
}

func (d *Desk) jar(p *OfSession) (*jar.Jar, error) {
	who, err := d.who(p.Identity)
	if err != nil {
		return nil, err
	}
	j, failure := d.proxy.Engine().Jar(who, p.Session)
	return j, failed(failure)
}

// keep has a change of the jar kept.
func (d *Desk) keep(p *OfSession) {
	if who, err := d.who(p.Identity); err == nil {
		d.proxy.Engine().Settle(who)
	}
}

func (d *Desk) cookie(p *cookieParams) (*jar.Jar, jar.Cookie, error) {
	j, err := d.jar(&p.OfSession)
	if err != nil {
		return nil, jar.Cookie{}, err
	}
	c, ok := j.Get(p.ID)
	if !ok {
		return nil, c, notFound(fmt.Sprintf("There is no cookie %d.", p.ID), "List the cookies to see their ids.")
	}
	return j, c, nil
}

func listCookies(_ context.Context, d *Desk, p *cookiesParams) (*Page[Cookie], error) {
	if err := d.mayReveal(p.Reveal); err != nil {
		return nil, err
	}
	j, err := d.jar(&p.OfSession)
	if err != nil {
		return nil, err
	}
	domain := strings.ToLower(strings.TrimPrefix(p.Domain, "."))
	var all []Cookie
	for _, c := range j.All() {
		if domain == "" || c.Domain == domain || strings.HasSuffix(c.Domain, "."+domain) {
			all = append(all, shownCookie(&c, p.Reveal))
		}
	}
	return paged(all, p.Paging, func(c *Cookie) string { return fmt.Sprintf("%020d", c.ID) })
}

func setCookie(_ context.Context, d *Desk, p *setCookieParams) (*Done, error) {
	j, err := d.jar(&p.OfSession)
	if err != nil {
		return nil, err
	}
	domain, below := strings.CutPrefix(p.Domain, ".")
	c := jar.Cookie{Name: p.Name, Value: p.Value, Domain: domain, HostOnly: !below, Path: p.Path, Secure: p.Secure, HTTPOnly: p.HTTPOnly,
		SameSite: jar.SameSite(p.SameSite), Expires: p.Expires, Order: d.proxy.Engine().Sequence()}
	if c.Path == "" {
		c.Path = "/"
	}
	defer d.keep(&p.OfSession)
	if _, err := j.Put(c, time.Now()); err != nil {
		var refused *jar.Error
		if errors.As(err, &refused) {
			return nil, invalid("The jar does not take the cookie: "+refused.Error()+".", "Correct it.")
		}
		return nil, err
	}
	return &Done{1, 1, "cookie " + p.Name + " is set"}, nil
}

func exportCookies(_ context.Context, d *Desk, p *exportCookiesParams) (*Exported, error) {
	if err := d.mayReveal(true); err != nil {
		return nil, err
	}
	j, err := d.jar(&p.OfSession)
	if err != nil {
		return nil, err
	}
	out := &Exported{Version: 1, Problems: []string{}}
	if p.Format == "json" {
		raw, err := jar.EncodeJSON(j.All())
		if err != nil {
			return nil, internal("cookies that are no JSON")
		}
		out.Text = string(raw)
		return out, nil
	}
	raw, problems := jar.EncodeNetscape(j.All())
	out.Text, out.Problems = strings.ToValidUTF8(string(raw), "\ufffd"), worded(problems)
	return out, nil
}
