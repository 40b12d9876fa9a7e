package rule

import (
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
)

// Explain says whether the scope covers the flow's request, and names the
// condition that decided: the first one that failed, or the entry that has the
// URL. The text holds what the configuration says and the tool, identity,
// method and host of the request, never a path, a value or a body. It agrees
// with Match, takes its time, and may read the body as Match does.
func (s *Scope) Explain(f *flow.Flow) (covered bool, why string) {
	v := &view{flow: f}
	switch {
	case !s.ready:
		return false, "the scope was not compiled"
	case f.Tool == flow.ToolMacro:
		return false, "tool: the requests of macros are in no rule's scope"
	case !s.matchTool(f.Tool):
		return false, fmt.Sprintf("tool: it is %s, and the rule is for %s", f.Tool, strings.Join(s.Tools, ", "))
	case !s.matchIdentity(f.Identity):
		name := f.Identity
		if name == "" {
			name = s.fallback
		}
		return false, fmt.Sprintf("identity: it is %s, and the rule is for %s", orNone(name), strings.Join(s.Identities, ", "))
	case !s.matchMethod(v):
		return false, fmt.Sprintf("method: it is %s, and the rule is for %s", v.request().Method(), strings.Join(s.Methods, ", "))
	}
	if covered, why = s.explainURL(v); !covered {
		return false, why
	}
	_, readable := v.body()
	switch {
	case len(s.Params) > 0 && !v.hasParam(s.Params):
		why = "parameter: there is no " + strings.Join(s.Params, ", ")
		if !readable {
			why += " in query and cookies, and the body cannot be looked at"
		}
		return false, why
	case s.Condition == nil:
		return true, why
	}
	switch v.asks(s.Condition) {
	case httpql.True:
		return true, why
	case httpql.Unknown:
		return false, "httpql: the condition asks about the body, which cannot be looked at: " + s.Condition.String()
	}
	return false, "httpql: the condition is not true: " + s.Condition.String()
}

func orNone(name string) string {
	if name == "" {
		return "the default one"
	}
	return name
}

func (s *Scope) explainURL(v *view) (covered bool, why string) {
	list, include, exclude := "include", s.Include, s.Exclude
	compiled := s.include
	if s.Project != nil {
		list, include, compiled = "the project's include", s.Project.Include, s.Project.include
	}
	at := firstOf(compiled, v)
	switch {
	case at < 0 && len(include) == 0:
		return false, failure(compiled[0], v) + " of the pattern " + s.Pattern
	case at < 0 && len(include) == 1:
		return false, fmt.Sprintf("%s of %s[0] (%s)", failure(compiled[0], v), list, include[0])
	case at < 0:
		return false, fmt.Sprintf("url: none of the %d entries of %s has it", len(include), list)
	}
	if s.Project != nil {
		if i := firstOf(s.Project.exclude, v); i >= 0 {
			return false, fmt.Sprintf("excluded by the project's exclude[%d] (%s)", i, s.Project.Exclude[i])
		}
	}
	if i := firstOf(s.exclude, v); i >= 0 {
		return false, fmt.Sprintf("excluded by exclude[%d] (%s)", i, exclude[i])
	}
	switch {
	case len(include) > 0:
		return true, fmt.Sprintf("%s[%d] (%s)", list, at, include[at])
	case s.Pattern != "":
		return true, "pattern " + s.Pattern
	}
	return true, "every URL"
}

// failure is the part of an entry that the URL does not match.
func failure(m *matcher, v *view) string {
	o := &v.flow.Origin
	switch {
	case m.regex != nil:
		return "url: the regex is not found in it, with host " + o.Host + ","
	case !m.host.match(o.Host):
		return "host: " + o.Host + " is not that"
	case m.scheme != "" && m.scheme != o.Scheme():
		return "protocol: " + o.Scheme() + " is not that"
	case m.ports == portExact && o.Port != m.port, m.ports == portDefault && o.Port != defaultPort(o.TLS),
		m.portRegex != nil && !m.portRegex.match(v.port()):
		return fmt.Sprintf("port: %d is not that", o.Port)
	}
	return "path: it is not that"
}
