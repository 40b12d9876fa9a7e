package rule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
)

// The kinds of patterns; "" guesses. TargetPrefix is another name for url.
const (
	ScopeHost   = "host"
	ScopeURL    = "url"
	ScopePrefix = "prefix"
	ScopeRegex  = "regex"
)

// Scope says which requests a rule is for: those that meet all of its
// conditions. The zero value is every request.
type Scope struct {
	Pattern string // see the package doc; "" and "*" are everything
	Target  string // host, url (or prefix) or regex; "" guesses from the pattern
	// Include is instead of Pattern: a URL must be in one of the entries.
	// Exclude leaves URLs out again; the kind of a pattern is guessed.
	Include, Exclude []URLs
	// Project is instead of Pattern and Include: the URLs of the project.
	// Exclude leaves out more.
	Project *Project
	// Tools that the rule is for, in any case; none means every tool.
	// Holdfast's own macro requests are never in scope.
	Tools      []string
	Identities []string // none means every identity
	Methods    []string // as they are sent: "GET"; none means every method
	// Params are names of parameters of which the request must have one: in
	// its query, its cookies or its body (see MaxScopeBody). None asks for none.
	Params []string
	// Condition must be true of the request; nil asks nothing. While it is
	// unknown, as it is about a body longer than MaxScopeBody, it is not true.
	Condition *httpql.Query

	ready            bool
	include, exclude []*matcher
	fallback         string // the identity of requests that name nobody
}

// Project is a list of URLs that several scopes share. It must not be changed
// once a scope that uses it was compiled.
type Project struct {
	Include []URLs // none is every URL
	Exclude []URLs

	include, exclude []*matcher
}

// Compile checks the lists. Errors are *Error.
func (p *Project) Compile() error {
	if p.include != nil {
		return nil // by the scope of an earlier rule
	}
	include, err := compileAll("include", p.Include)
	if err != nil {
		return err
	}
	exclude, err := compileExclude(p.Exclude)
	if err != nil {
		return err
	}
	if len(include) == 0 {
		include = []*matcher{new(matcher)}
	}
	p.include, p.exclude = include, exclude
	return nil
}

func compileExclude(list []URLs) ([]*matcher, *Error) {
	for i, u := range list {
		if u.isAnything() {
			return nil, &Error{Key: fmt.Sprintf("exclude[%d]", i), Problem: "this leaves everything out: the rule can never fire", Next: "write the URLs to leave out, or enabled: false"}
		}
	}
	return compileAll("exclude", list)
}

// Compile checks the scope and readies it for Match. Errors are *Error.
func (s *Scope) Compile() error {
	if err := s.compileURLs(); err != nil {
		return err
	}
	for i, tool := range s.Tools {
		key := fmt.Sprintf("tools[%d]", i)
		if tool == "" {
			return &Error{Key: key, Problem: "a tool has no name", Next: "write proxy, or the label of a listener"}
		}
		if strings.EqualFold(tool, flow.ToolMacro) {
			return &Error{Key: key, Problem: "macro requests are never in the scope of a rule", Next: "leave macro out; its steps have their own extractions"}
		}
	}
	for i, method := range s.Methods {
		if !isToken(method) {
			return &Error{Key: fmt.Sprintf("methods[%d]", i), Problem: fmt.Sprintf("%q is no method", method), Next: "write GET, POST and so on"}
		}
	}
	for i, name := range s.Params {
		if name == "" {
			return &Error{Key: fmt.Sprintf("params[%d]", i), Problem: "a parameter has no name", Next: "name it"}
		}
	}
	if err := checkCondition(s.Condition); err != nil {
		return err
	}
	s.ready = true
	return nil
}

func (s *Scope) compileURLs() error {
	exclude, err := compileExclude(s.Exclude)
	if err != nil {
		return err
	}
	s.exclude = exclude
	switch single := s.Pattern != "" || s.Target != ""; {
	case s.Project != nil && (single || len(s.Include) > 0):
		return &Error{Key: "urls", Problem: "the scope has the project's URLs and others", Next: "keep one of urls, pattern and include"}
	case s.Project != nil:
		s.include = nil
		return asProblem(s.Project.Compile())
	case single && len(s.Include) > 0:
		return &Error{Key: "include", Problem: "the scope has a pattern and a list of URLs", Next: "put the pattern into the list"}
	case len(s.Include) > 0:
		s.include, err = compileAll("include", s.Include)
		return asProblem(err)
	}
	m, err := compileMatcher(s.Pattern, s.Target)
	s.include = []*matcher{m}
	return asProblem(err)
}

// asProblem keeps a nil *Error from becoming an error. An error that is one
// already stays it.
func asProblem(err error) error {
	if e, ok := err.(*Error); ok && e == nil {
		return nil
	}
	return err
}

// checkCondition refuses conditions about what a request does not have yet.
func checkCondition(q *httpql.Query) error {
	const known = httpql.NeedRequest | httpql.NeedRequestBody
	if q == nil || q.Needs()&^known == 0 {
		return nil
	}
	return &Error{Key: "httpql", Problem: "the condition asks about more than the request, which is all that there is when a scope is asked",
		Next: "ask about req.…, flow.tool and flow.identity; what responses say belongs to validation"}
}

// Match reports whether the scope covers the flow's request. It is false before
// Compile. It may read the request's body, as [flow.Flow.Peek] does.
func (s *Scope) Match(f *flow.Flow) bool {
	v := &view{flow: f}
	return f.Tool != flow.ToolMacro && s.match(v)
}

// match asks the cheap conditions first, and the body last.
func (s *Scope) match(v *view) bool {
	return s.ready && s.matchTool(v.flow.Tool) && s.matchIdentity(v.flow.Identity) && s.matchMethod(v) &&
		s.matchURL(v) &&
		(len(s.Params) == 0 || v.hasParam(s.Params)) &&
		(s.Condition == nil || v.asks(s.Condition) == httpql.True)
}

func (s *Scope) matchTool(tool string) bool {
	if len(s.Tools) == 0 {
		return true
	}
	for _, t := range s.Tools {
		if strings.EqualFold(t, tool) {
			return true
		}
	}
	return false
}

func (s *Scope) matchIdentity(name string) bool {
	if len(s.Identities) == 0 || name == flow.Anonymous { // whose credentials are taken out, whoever's they are
		return true
	}
	if name == "" {
		name = s.fallback
	}
	return slices.Contains(s.Identities, name)
}

func (s *Scope) matchMethod(v *view) bool {
	if len(s.Methods) == 0 {
		return true
	}
	method := v.request().Method()
	for _, m := range s.Methods {
		if string(method) == m {
			return true
		}
	}
	return false
}

func (s *Scope) matchURL(v *view) bool {
	if s.Project != nil {
		if !v.inProject(s.Project) {
			return false
		}
	} else if firstOf(s.include, v) < 0 {
		return false
	}
	return firstOf(s.exclude, v) < 0
}

// firstOf is the index of the first entry that has the URL, or -1.
func firstOf(list []*matcher, v *view) int {
	for i, m := range list {
		if m.match(v) {
			return i
		}
	}
	return -1
}

// inProject reports whether the URL is in a project, which rules that follow
// each other ask again and again.
func (v *view) inProject(p *Project) bool {
	if v.project != p {
		v.project, v.inside = p, firstOf(p.include, v) >= 0 && firstOf(p.exclude, v) < 0
	}
	return v.inside
}

// entries are the included entries, of the project where it is that.
func (s *Scope) entries() []*matcher {
	if s.Project != nil {
		return s.Project.include
	}
	return s.include
}
