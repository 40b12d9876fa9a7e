package session

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The fields by which a client tells Holdfast something about one request.
// They are taken out of it, whatever the request is about.
const (
	directivePrefix   = "Holdfast-"
	DirectiveIdentity = "Holdfast-Identity" // who the request speaks for
	DirectiveKeep     = "Holdfast-Keep"     // places that are left as the client wrote them
	DirectiveProtect  = "Holdfast-Protect"  // "off": send it although it may end the session
)

// maxKept bounds the places that one request can name.
const maxKept = 64

// Direct is the stage that reads and removes the Holdfast- fields of a request.
// It belongs before everything that looks at the request or at whom it speaks
// for. A field that says nothing sensible is refused: a misspelt identity would
// otherwise be somebody else's request.
func (e *Engine) Direct(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		if isDirected(f.Request) {
			if failed := e.obey(f); failed != nil {
				return failed
			}
		}
		return next(ctx, f)
	}
}

// isDirected reports whether there is such a field. It looks at each field of
// every request, and allocates nothing.
func isDirected(r *wire.Request) bool {
	for i := range r.NumFields() {
		if name, _ := r.Field(i); isDirective(name) {
			return true
		}
	}
	return false
}

func isDirective(name []byte) bool {
	return len(name) > len(directivePrefix) && name[0]|0x20 == 'h' && strings.EqualFold(string(name[:len(directivePrefix)]), directivePrefix)
}

// obey removes the fields and does what they say.
func (e *Engine) obey(f *flow.Flow) *flow.Error {
	said := make(map[string]string)
	r := f.Edit()
	for i := 0; i < r.NumFields(); {
		name, value := r.Field(i)
		if !isDirective(name) {
			i++
			continue
		}
		key, text := strings.ToLower(string(name)), strings.TrimSpace(string(value))
		if had, twice := said[key]; twice && key == strings.ToLower(DirectiveKeep) {
			text = had + "," + text // a list (RFC 9110 §5.3)
		} else if twice && had != text {
			return directiveError("%s stands there twice, with different values", "write it once", name)
		}
		said[key] = text
		r.DelField(i)
	}
	for key, text := range said {
		var failed *flow.Error
		switch key {
		case strings.ToLower(DirectiveIdentity):
			failed = e.speakFor(f, text)
		case strings.ToLower(DirectiveKeep):
			failed = keepPlaces(f, text)
		case strings.ToLower(DirectiveProtect):
			if f.Unprotected = strings.EqualFold(text, "off"); !f.Unprotected {
				failed = directiveError("%s can only be off", "write off, or leave it out", DirectiveProtect)
			}
		default:
			failed = directiveError("there is no %q", "write "+DirectiveIdentity+", "+DirectiveKeep+" or "+DirectiveProtect, shown(key))
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

func directiveError(format, next string, args ...any) *flow.Error {
	return &flow.Error{Status: 400, Reason: flow.ReasonDirective, Detail: fmt.Sprintf(format, args...), Next: next}
}

// speakFor makes the flow one of the named identity.
func (e *Engine) speakFor(f *flow.Flow, name string) *flow.Error {
	if _, known := e.identities[name]; name == "" || !known && name != Anonymous {
		return e.unknownIdentity(name)
	}
	f.Identity = name
	e.tell(f, flow.ActionNote, DirectiveIdentity+": "+name)
	return nil
}

// keepPlaces notes the places of a Holdfast-Keep field.
func keepPlaces(f *flow.Flow, list string) *flow.Error {
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		place, err := rule.ParsePlace(text)
		if err != nil {
			failed := directiveError("%s: %q is no place", "write a kind and a name: cookie:sessid, header:authorization, query:token", DirectiveKeep, shown(text))
			if e, ok := err.(*rule.Error); ok {
				failed.Next = e.Next
			}
			return failed
		}
		if !slices.Contains(f.Keep, place) {
			f.Keep = append(f.Keep, place)
		}
		if len(f.Keep) > maxKept {
			return directiveError("%s names more than %d places", "name fewer", DirectiveKeep, maxKept)
		}
	}
	if len(f.Keep) == 0 {
		return directiveError("%s names no place", "write a kind and a name, such as cookie:sessid, or leave it out", DirectiveKeep)
	}
	return nil
}

// shown keeps what a client wrote from filling a message.
func shown(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// tell writes into a flow's trace what no rule did.
func (e *Engine) tell(f *flow.Flow, action, detail string) {
	f.Trace.Add(flow.Event{At: e.now().Sub(f.Start), Actor: "session", Action: action, Detail: detail})
}
