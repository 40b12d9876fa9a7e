package rule

import (
	"fmt"
	"strings"
)

// ParsePlace reads the name of a place in a request as a person writes it,
// "cookie:sid" or "Header: Authorization", and returns it as [Target.Place] has
// it. Errors are *Error.
func ParsePlace(text string) (string, error) {
	kind, name, ok := strings.Cut(text, ":")
	kind, name = strings.ToLower(strings.TrimSpace(kind)), strings.TrimSpace(name)
	var known []string
	for _, t := range TargetTypes() {
		p, _ := targetPlaces(t)
		known = append(known, strings.TrimSuffix(p.prefix, ":"))
		if ok && name != "" && p.prefix == kind+":" {
			if p.fold {
				name = strings.ToLower(name)
			}
			return p.prefix + name, nil
		}
	}
	return "", &Error{Problem: fmt.Sprintf("%q is no place", cut(text)), Next: "write a kind and a name, such as cookie:sessid, header:authorization or query:token; the kinds are " + strings.Join(known, ", ")}
}

// cut keeps a text that somebody else wrote from filling a message.
func cut(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// Place names the place in the request that the source takes its value from, in
// the words of [Target.Place]; "" for a source that looks at the answer.
func (s *Source) Place() string {
	switch s.Type {
	case SourceRequestHeader:
		return headerPlace().prefix + strings.ToLower(s.Name)
	case SourceRequestCookie:
		return cookiePlace().prefix + s.Name
	}
	return ""
}

// Remove takes the target's place out of the request's head, every one of that
// name, and reports whether there was one. A place in the path or the body
// cannot be taken out: false.
func (t *Target) Remove(m *Message) bool {
	if _, present := t.find(m); !present || t.place.drop == nil {
		return false
	}
	t.place.drop(m, t)
	return true
}
