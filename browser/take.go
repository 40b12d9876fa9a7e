package browser

import (
	"context"
	"strings"
	"time"

	"github.com/chromedp/cdproto/network"

	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
)

// maxStored is how much of a value in a page's storage is taken, in bytes.
const maxStored = 256 << 10

// storedTries is how often a page is asked for one: it may be one that never
// answers.
const storedTries = 4

// take hands over what the login brought.
func (t *tour) take(ctx context.Context) error {
	if err := t.keep(ctx); err != nil {
		return err
	}
	cookies, err := t.cookies(ctx)
	for ; err != nil; cookies, err = t.cookies(ctx) {
		if !t.slow(err) {
			return err
		}
		if ctx.Err() != nil {
			return t.failed("its cookies", "no answer of the browser after "+t.login.How.Timeout.String())
		}
	}
	for _, c := range cookies {
		if err := t.login.PutCookie(cookie(c)); err != nil {
			t.login.Tell("cookie %s is not taken: %v", c.Name, err)
		}
	}
	for _, s := range t.login.How.Take {
		if t.login.Has != nil && !t.login.Has(s.Token) {
			area := "localStorage"
			if s.Session {
				area = "sessionStorage"
			}
			return t.failed("token "+s.Token, "no value at "+s.Key+" of "+area)
		}
	}
	return nil
}

// keep takes what is in the pages' storage, the newest page first. A page that
// is slow is asked again, for what it has may be wanted.
func (t *tour) keep(ctx context.Context) error {
	for _, s := range t.login.How.Take {
		for i := len(t.pages) - 1; i >= 0; i-- {
			value, err := t.stored(ctx, t.pages[i], s)
			if err != nil || value == nil || len(*value) > maxStored {
				continue
			}
			text := *value
			if s.JSON != nil {
				var ok bool
				if text, ok = s.JSON.Extract(nil, nil, []byte(text)); !ok {
					continue
				}
			}
			t.login.Put(s.Token, text)
			break
		}
	}
	return nil
}

func (t *tour) stored(ctx context.Context, p *tab, s macro.Stored) (*string, error) {
	args := map[string]any{"session": s.Session, "key": s.Key}
	value, err := ask[*string](ctx, p, "stored", args)
	for n := 1; n < storedTries && err != nil && t.slow(err) && p.ctx.Err() == nil && ctx.Err() == nil; n++ {
		value, err = ask[*string](ctx, p, "stored", args)
	}
	return value, err
}

// cookie is a cookie of the browser's as a jar has it. The browser writes the
// domain of one that is for lower hosts too with a dot.
func cookie(c *network.Cookie) jar.Cookie {
	out := jar.Cookie{Name: c.Name, Value: c.Value, Domain: strings.TrimPrefix(c.Domain, "."), HostOnly: !strings.HasPrefix(c.Domain, "."),
		Path: c.Path, Secure: c.Secure, HTTPOnly: c.HTTPOnly, Partitioned: c.PartitionKey != nil}
	switch c.SameSite {
	case network.CookieSameSiteStrict:
		out.SameSite = jar.SameSiteStrict
	case network.CookieSameSiteLax:
		out.SameSite = jar.SameSiteLax
	case network.CookieSameSiteNone:
		out.SameSite = jar.SameSiteNone
	}
	if !c.Session && c.Expires > 0 {
		out.Expires = time.Unix(int64(c.Expires), 0).UTC()
	}
	return out
}
