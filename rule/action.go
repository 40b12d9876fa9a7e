package rule

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/script"
)

// Action is one thing that a rule does to a request, or around it. Exactly one
// of the fields is set; each is a key of the configuration. They are done in
// order, after a dead session was recovered and before the rule's token
// updates.
type Action struct {
	UseCookies       *UseCookies
	SetParam         *SetParam
	SetHeader        *SetHeader
	CheckSession     *CheckSession
	RunMacro         *RunMacro
	RunPostMacro     *RunPostMacro
	RecoverInBrowser *RecoverInBrowser
	RunScript        *RunScript
	Stop             bool
}

// The names of actions in the configuration and in traces.
const (
	ActionUseCookies       = "use_cookies"
	ActionSetParam         = "set_param"
	ActionSetHeader        = "set_header"
	ActionCheckSession     = "check_session"
	ActionRunMacro         = "run_macro"
	ActionRunPostMacro     = "run_post_request_macro"
	ActionRecoverInBrowser = "recover_in_browser"
	ActionRunScript        = "run_script"
	ActionStop             = "stop"
)

// ActionNames lists the actions.
func ActionNames() []string {
	return []string{ActionUseCookies, ActionSetParam, ActionSetHeader, ActionCheckSession, ActionRunMacro, ActionRunPostMacro,
		ActionRecoverInBrowser, ActionRunScript, ActionStop}
}

// Name is the action's name; "" of an empty one.
func (a *Action) Name() string {
	switch {
	case a.UseCookies != nil:
		return ActionUseCookies
	case a.SetParam != nil:
		return ActionSetParam
	case a.SetHeader != nil:
		return ActionSetHeader
	case a.CheckSession != nil:
		return ActionCheckSession
	case a.RunMacro != nil:
		return ActionRunMacro
	case a.RunPostMacro != nil:
		return ActionRunPostMacro
	case a.RecoverInBrowser != nil:
		return ActionRecoverInBrowser
	case a.RunScript != nil:
		return ActionRunScript
	case a.Stop:
		return ActionStop
	}
	return ""
}

// Pick says which names are meant: all of them, all except some, only some, or
// none. Names are compared byte for byte. The zero value means all.
type Pick struct {
	None   bool
	Only   []string // empty: all
	Except []string
}

// Has reports whether the name is meant.
func (p *Pick) Has(name string) bool {
	return !p.None && (len(p.Only) == 0 || slices.Contains(p.Only, name)) && !slices.Contains(p.Except, name)
}

func (p *Pick) compile() error {
	if len(p.Only) > 0 && len(p.Except) > 0 {
		return &Error{Problem: "only and except are both given", Next: "keep one of them"}
	}
	return nil
}

// The modes of UseCookies; "" is CookiesJarWins.
const (
	CookiesJarWins    = "jar_wins"    // the jar's value replaces the client's
	CookiesClientWins = "client_wins" // the jar adds what the client does not name
	CookiesStrip      = "strip"       // the client's cookies go first
)

// CookieModes lists the modes.
func CookieModes() []string { return []string{CookiesJarWins, CookiesClientWins, CookiesStrip} }

// UseCookies puts the cookies of the identity's jar into the request. Of rules
// with it, the jar takes the cookies of answers too.
type UseCookies struct {
	Mode string
	Pick Pick
}

// The places of SetParam.
const (
	InQuery  = "query"
	InBody   = "body" // a form's or a multipart body's field, or a member of a JSON object
	InCookie = "cookie"
)

// ParamPlaces lists them in the order in which they are looked at.
func ParamPlaces() []string { return []string{InQuery, InBody, InCookie} }

// SetParam sets a parameter wherever it stands in one of the places; where it
// stands in none, it is added to the first.
type SetParam struct {
	Name     string
	Value    *Template // nil is the empty value
	In       []string  // empty: ParamPlaces
	IfAbsent string

	places Param
}

// SetHeader sets the first field of the name.
type SetHeader struct {
	Name     string
	Value    *Template // nil is the empty value
	IfAbsent string

	target *Target
}

// Target is the place of the field. nil before Compile.
func (a *SetHeader) Target() *Target { return a.target }

// RunMacro runs a macro for the request, before it is sent, and puts what its
// last answer offers into the request's parameters of the same name. Without
// Every and Interval each sending has a run of its own, so that a value which
// is good for one use is used once.
type RunMacro struct {
	Macro    string
	Params   Pick
	Tolerate bool // tolerate_url_mismatch: take values that lead to other URLs too
	Cookies  Pick
	Every    int             // 0: for each request; N: one run serves N requests
	Interval time.Duration   // 0: for each request; else one run serves for so long
	Script   *script.Program // run on the request behind it; nil is none
}

// Shared reports whether one run serves several requests.
func (a *RunMacro) Shared() bool { return a.Every > 1 || a.Interval > 0 }

// What RunPostMacro hands to the client.
const (
	PassCurrent = "current"
	PassFinal   = "final"
)

// RunPostMacro runs a macro behind the request. It ends the actions.
type RunPostMacro struct {
	Macro    string
	Feed     Pick   // of the answer, into the parameters of the macro's first request
	PassBack string // "" is PassFinal
}

// RecoverInBrowser has a person log in in a browser.
type RecoverInBrowser struct {
	Cookies Pick
	Browser string // the name of how; "" leaves all to the person
}

// RunScript has a script edit the request before it is sent, or the answer
// before the client gets it.
type RunScript struct {
	Script   *script.Program
	Response bool
}

// Stops reports whether the rules of lower priority are not for a request that
// this rule is for.
func (r *Rule) Stops() bool {
	return slices.ContainsFunc(r.Actions, func(a Action) bool { return a.Stop || a.RunPostMacro != nil })
}

// EditsBody reports whether an action may look at, or change, the request's
// body.
func (a *Action) EditsBody() bool {
	switch {
	case a.SetParam != nil:
		return slices.Contains(a.SetParam.In, InBody) || len(a.SetParam.In) == 0
	case a.RunMacro != nil:
		return !a.RunMacro.Params.None
	case a.CheckSession != nil:
		return len(a.CheckSession.Macros) > 0 && !a.CheckSession.Params.None
	}
	return a.RunScript != nil && !a.RunScript.Response
}

// compileActions readies the actions and says what is wrong with them.
func (r *Rule) compileActions() (errs Errors) {
	r.Actions = slices.Clone(r.Actions)
	checks := 0
	for i := range r.Actions {
		a := &r.Actions[i]
		key := fmt.Sprintf("actions[%d]", i)
		name := a.Name()
		if name == "" {
			errs = append(errs, within(key, &Error{Problem: "the action is empty", Next: "write one of " + strings.Join(ActionNames(), ", ")}))
			continue
		}
		if err := a.compile(); err != nil {
			errs = append(errs, within(key+"."+name, err))
		}
		if (a.Stop || a.RunPostMacro != nil) && i < len(r.Actions)-1 {
			errs = append(errs, within(fmt.Sprintf("actions[%d]", i+1), &Error{Problem: "nothing is done after " + name, Next: "put " + name + " last"}))
		}
		if a.CheckSession != nil {
			if checks++; checks > 1 {
				errs = append(errs, within(key, &Error{Problem: "the rule checks its session twice", Next: "keep one check_session, or make two rules"}))
				continue
			}
			errs = append(errs, r.takeCheck(key+"."+name, a.CheckSession)...)
		}
	}
	if slices.ContainsFunc(r.Actions, func(a Action) bool { return a.Stop }) {
		for i, u := range r.Updates {
			if u.Target != nil {
				errs = append(errs, within(fmt.Sprintf("token_updates[%d].target", i), &Error{Problem: "the token is never put in: stop ends the rule before", Next: "take stop out, or the target"}))
			}
		}
	}
	return errs
}

func (a *Action) compile() error {
	switch {
	case a.UseCookies != nil:
		if m := a.UseCookies.Mode; m != "" && !slices.Contains(CookieModes(), m) {
			return &Error{Key: "mode", Problem: fmt.Sprintf("there is no mode %q", m), Next: "write one of " + strings.Join(CookieModes(), ", ")}
		}
		return a.UseCookies.Pick.compile()
	case a.SetParam != nil:
		return a.SetParam.compile()
	case a.SetHeader != nil:
		return a.SetHeader.compile()
	case a.CheckSession != nil:
		return a.CheckSession.compile()
	case a.RunMacro != nil:
		return a.RunMacro.compile()
	case a.RunPostMacro != nil:
		p := a.RunPostMacro
		if p.PassBack != "" && p.PassBack != PassCurrent && p.PassBack != PassFinal {
			return &Error{Key: "pass_back", Problem: fmt.Sprintf("there is no pass_back %q", p.PassBack), Next: "write current or final"}
		}
		return needMacro(p.Macro, p.Feed.compile())
	case a.RecoverInBrowser != nil:
		return a.RecoverInBrowser.Cookies.compile()
	case a.RunScript != nil && a.RunScript.Script == nil:
		return &Error{Problem: "there is no script", Next: "write run_script: | and the script below it, or run_script: {file: NAME.js}"}
	}
	return nil
}

func needMacro(name string, err error) error {
	if strings.TrimSpace(name) == "" {
		return &Error{Key: "macro", Problem: "the macro has no name", Next: "write the macro's name or ID"}
	}
	return err
}

func (a *SetParam) compile() error {
	for _, in := range a.In {
		if !slices.Contains(ParamPlaces(), in) {
			return &Error{Key: "in", Problem: fmt.Sprintf("there is no place %q", in), Next: "write query, body or cookie"}
		}
	}
	if err := checkIfAbsent(a.IfAbsent); err != nil {
		return err
	}
	if a.Name == "" {
		return &Error{Key: "name", Problem: "the parameter has no name", Next: "name it"}
	}
	in := a.In
	if len(in) == 0 {
		in = ParamPlaces()
	}
	if !isToken(a.Name) && !slices.Contains(a.In, InCookie) { // it is none of a cookie
		in = slices.DeleteFunc(slices.Clone(in), func(s string) bool { return s == InCookie })
	}
	var err error
	a.places, err = newParam(a.Name, a.Value, in)
	return err
}

func (a *SetHeader) compile() error {
	if err := checkIfAbsent(a.IfAbsent); err != nil {
		return err
	}
	a.target = &Target{Type: TargetRequestHeader, Name: a.Name, Template: orEmpty(a.Value), IfAbsent: a.IfAbsent}
	return a.target.compilePlace()
}

func (a *RunMacro) compile() error {
	switch {
	case a.Every < 0:
		return &Error{Key: "every", Problem: "every is less than 1", Next: "write how many requests one run serves"}
	case a.Interval < 0:
		return &Error{Key: "interval", Problem: "interval is less than 0", Next: "write a time such as 30s"}
	}
	if err := a.Params.compile(); err != nil {
		return within("update_params", err)
	}
	if err := a.Cookies.compile(); err != nil {
		return within("update_cookies", err)
	}
	return needMacro(a.Macro, nil)
}

func checkIfAbsent(s string) error {
	if s != "" && s != IfAbsentAdd && s != IfAbsentSkip {
		return &Error{Key: "if_absent", Problem: fmt.Sprintf("there is no if_absent %q", s), Next: "write add or skip"}
	}
	return nil
}

// orEmpty is the template, or one of the empty text.
func orEmpty(t *Template) *Template {
	if t == nil {
		return new(Template)
	}
	return t
}
