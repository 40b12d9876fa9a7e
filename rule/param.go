package rule

import (
	"slices"
	"strings"
)

// Param is a parameter of a request by its name: in the query, in a cookie, in
// a form, in a part of a multipart body or a member of a JSON object. It never
// changes; any goroutine may use it.
type Param struct {
	in                                   []string
	query, cookie, form, multipart, json *Target
}

// NewParam is the parameter of that name, wherever it stands in one of the
// places; none means ParamPlaces. A name that no cookie can have is looked for
// elsewhere. Its targets take the value that Inject is given.
func NewParam(name string, in ...string) Param {
	if len(in) == 0 {
		in = ParamPlaces()
	}
	if !isToken(name) {
		in = slices.DeleteFunc(slices.Clone(in), func(s string) bool { return s == InCookie })
	}
	p, _ := newParam(name, nil, in) // only a name that no cookie can have is refused
	return p
}

func newParam(name string, value *Template, in []string) (Param, error) {
	p := Param{in: in}
	targets := []struct {
		in     string
		into   **Target
		target Target
	}{
		{InQuery, &p.query, Target{Type: TargetQueryParam, Name: name}},
		{InCookie, &p.cookie, Target{Type: TargetCookie, Name: name}},
		{InBody, &p.form, Target{Type: TargetFormParam, Name: name}},
		{InBody, &p.multipart, Target{Type: TargetMultipart, Name: name}},
		{InBody, &p.json, Target{Type: TargetJSON, Pointer: "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)}},
	}
	for i := range targets {
		t := &targets[i]
		if !slices.Contains(in, t.in) {
			continue
		}
		t.target.Template = value
		if err := t.target.compilePlace(); err != nil {
			return p, err
		}
		*t.into = &t.target
	}
	return p, nil
}

// Present appends the places in which the request has the parameter to dst.
func (p *Param) Present(m *Message, dst []*Target) []*Target {
	for _, in := range p.in {
		t := p.target(m, in)
		if t == nil {
			continue
		}
		if _, ok := t.find(m); ok {
			dst = append(dst, t)
		}
	}
	return dst
}

// Absent is where the parameter is added to a request that lacks it; nil when
// the request cannot have it there.
func (p *Param) Absent(m *Message) *Target { return p.target(m, p.in[0]) }

// target is the place that stands for the word in this request.
func (p *Param) target(m *Message, in string) *Target {
	switch {
	case in == InQuery:
		return p.query
	case in == InCookie:
		return p.cookie
	case len(m.Body) == 0:
		return nil
	}
	switch media := mediaType(&m.Request.Head); {
	case strings.HasPrefix(media, "multipart/"):
		return p.multipart
	case styleOf(m) == styleJSON:
		return p.json
	case styleOf(m) == styleForm:
		return p.form
	}
	return nil
}

// Places are those in which the parameter is looked for.
func (a *SetParam) Places() *Param { return &a.places }
