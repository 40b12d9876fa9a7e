package macro

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// chain is the redirects of one step.
type chain struct {
	run   *run
	step  *Step
	plain *wire.Request // the last request without the cookies of the jar
	hop   int           // redirects that were followed
	last  *StepResult   // the answer that led here
	// seen has the hashes of the requests that were sent: the same one once
	// more, cookies included, is a loop. At most Max of them.
	seen map[[sha256.Size]byte]bool
}

// repeats reports whether the very request was sent before in this step.
func (c *chain) repeats(f *flow.Flow, body []byte) bool {
	if c.step.Redirects.Max == 0 {
		return false
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", f.Origin.URL(nil), f.Request.Bytes())
	h.Write(body)
	sum := [sha256.Size]byte(h.Sum(nil))
	if c.seen == nil {
		c.seen = make(map[[sha256.Size]byte]bool)
	}
	again := c.seen[sum]
	c.seen[sum] = true
	return again
}

// next is the request that an answer redirects to; nil where it does not, or
// where the step does not follow.
func (c *chain) next(b *Built, answer *StepResult) (*Built, *StepError) {
	limit := c.step.Redirects.Max
	to := destination(b, answer)
	if limit == 0 || to == nil || to.Scheme != "http" && to.Scheme != "https" {
		return nil, nil
	}
	if until := c.step.Redirects.Until; until != nil {
		if place, missing := until.Expand(c.run.lookup); len(missing) == 0 && strings.HasPrefix(to.String(), place) {
			return nil, nil
		}
	}
	c.last = answer
	if c.hop == limit {
		c.hop++
		return nil, c.failed(fmt.Sprintf("at most %d redirects", limit))
	}
	c.hop++
	next, err := c.follow(b, answer.Response.Status(), to)
	if err != nil {
		e := c.failed("a redirect that can be followed")
		e.Cause = err
		return nil, e
	}
	return next, nil
}

// failed is a chain that does not lead anywhere.
func (c *chain) failed(want string) *StepError {
	return &StepError{Kind: Rejected, Hop: c.hop, Want: want, Got: describe(c.last), Status: c.last.Response.Status()}
}

// destination is where an answer redirects to (RFC 9110 §10.2.2), without a
// fragment; nil: nowhere that can be understood.
func destination(b *Built, answer *StepResult) *url.URL {
	switch answer.Response.Status() {
	case 301, 302, 303, 307, 308:
	default:
		return nil
	}
	location, ok := answer.Response.Get("Location")
	if !ok {
		return nil
	}
	base, err := url.Parse(b.Origin.URL(b.Request.Target()))
	if err != nil {
		return nil
	}
	to, err := base.Parse(escapeLocation(string(location)))
	if err != nil {
		return nil
	}
	to.Fragment, to.RawFragment = "", ""
	return to
}

// escapeLocation percent-encodes what may not stand in a request line and yet
// stands in the Location fields of real applications, as browsers do.
func escapeLocation(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>`, c) >= 0 {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// follow makes the request that a browser would make of a redirect (Fetch
// §4.4): 303 asks with GET, and so do 301 and 302 where the request was a POST;
// 307 and 308 send the same once more.
func (c *chain) follow(b *Built, status int, to *url.URL) (*Built, error) {
	origin, failed := parseOrigin(to.Scheme, to.Host)
	if failed != nil {
		return nil, failed
	}
	method, body := string(c.plain.Method()), b.Body
	bare := false // the body and what is said about it do not go on
	if status == 303 && method != "HEAD" && method != "GET" || status <= 302 && method == "POST" {
		method, body, bare = "GET", nil, true
	}
	target := to.EscapedPath()
	if target == "" {
		target = "/"
	}
	if to.RawQuery != "" || to.ForceQuery {
		target += "?" + to.RawQuery
	}
	secret := c.secrets()
	head := fmt.Appendf(nil, "%s %s %s\r\nHost: %s\r\n", method, target, c.plain.Version(), strings.TrimPrefix(origin.URL(nil), origin.Scheme()+"://"))
	for i := range c.plain.NumFields() {
		name, value := c.plain.Field(i)
		switch lower := strings.ToLower(string(name)); {
		case lower == "host",
			bare && slices.Contains(aboutBody(), lower),
			origin != b.Origin && (slices.Contains(credentials(), lower) || slices.Contains(secret, lower)):
		case lower == "origin" && origin != b.Origin:
			head = append(head, "Origin: null\r\n"...) // Fetch §3.2
		default:
			head = fmt.Appendf(head, "%s: %s\r\n", name, value)
		}
	}
	req, err := wire.ParseRequest(append(head, "\r\n"...))
	if err != nil {
		return nil, err
	}
	c.plain = req.Clone()
	return &Built{Origin: origin, Request: req, Body: body}, nil
}

// aboutBody are the fields that go with the body (Fetch, request-body-header
// name).
func aboutBody() []string {
	return []string{"content-type", "content-length", "content-encoding", "content-language", "content-location", "transfer-encoding"}
}

// credentials are the fields that another origin is never sent. Its cookies it
// gets from the jar.
func credentials() []string { return []string{"authorization", "proxy-authorization", "cookie"} }

// secrets are the fields of the step whose values come from variables: what is
// in them was meant for the first origin.
func (c *chain) secrets() []string {
	var names []string
	for _, t := range c.step.Request.fields {
		if name, _, ok := cutOutside(t.String(), ':'); ok && len(t.Names()) > 0 {
			names = append(names, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	return names
}
