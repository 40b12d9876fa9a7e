package macro

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-proxy/holdfast/rule"
)

// Bounds of a login in a browser.
const (
	BrowserTimeout = time.Minute      // how long one that nobody sees takes
	PersonTimeout  = 10 * time.Minute // how long a person has
	MaxTimeout     = time.Hour
	MaxActions     = 100 // of one login
)

// Browser is a login made in a browser instead of by requests. It never
// changes; any goroutine may use it.
type Browser struct {
	// URL is where it begins; nil is where the request went that wanted the
	// session, for a person.
	URL     *rule.Template
	Visible bool // a person sees it, and does what Actions leave
	Actions []BrowserAction
	// Until says that somebody is logged in. Nothing in it: the actions are
	// done, and a person says so.
	Until BrowserMark
	// Refused are selectors of what a page shows when it says no to the
	// credentials: that is a failed login.
	Refused []string
	Timeout time.Duration // until the browser is closed
	Wait    time.Duration // how long requests wait; the browser may go on
	Cookies rule.Pick     // which of them the identity's jar takes
	Take    []Stored
	// Screenshot keeps a picture of the page where a login failed.
	Screenshot bool
}

// The names of actions in a browser, as the configuration says them.
const (
	BrowserGoto   = "goto"   // Value is a URL, or a path on the page's origin
	BrowserFill   = "fill"   // Value into Selector
	BrowserClick  = "click"  // Selector
	BrowserPress  = "press"  // Value is a key: Enter, Tab, Escape, Space
	BrowserSelect = "select" // Value: the option's value or its text
	BrowserCheck  = "check"  // Selector, a box or a radio button
	BrowserWait   = "wait"   // until all of Mark and Text are there
)

// BrowserActions lists them.
func BrowserActions() []string {
	return []string{BrowserGoto, BrowserFill, BrowserClick, BrowserPress, BrowserSelect, BrowserCheck, BrowserWait}
}

// BrowserAction is one thing done in a page.
type BrowserAction struct {
	Do string
	// Selector is in CSS, or text=WORDS or label=WORDS of a control. It is
	// looked for in open shadow roots and in frames of the same origin, too.
	Selector string
	Value    *rule.Template
	Mark     BrowserMark
}

// BrowserMark is how a state of the browser shows; all that is given must be
// there.
type BrowserMark struct {
	// URL begins with a slash: the path of a page begins with it; else its URL
	// does.
	URL      *rule.Template
	Selector string // it is there and can be seen
	Text     string // the page says it
	Cookie   string // name of one that is set
	Local    string // key of localStorage
	Session  string // key of sessionStorage
	Token    string // a rule's source found it in the browser's traffic
}

// Empty reports whether nothing is asked for.
func (m *BrowserMark) Empty() bool { return *m == BrowserMark{} }

// Stored is a token that comes from a page's storage.
type Stored struct {
	Token   string
	Key     string
	Session bool         // of sessionStorage, not localStorage
	JSON    *rule.Source // what of the value; nil: all of it
}

// templates are those that need values.
func (b *Browser) templates() []*rule.Template {
	all := []*rule.Template{b.URL, b.Until.URL}
	for i := range b.Actions {
		all = append(all, b.Actions[i].Value, b.Actions[i].Mark.URL)
	}
	return slices.DeleteFunc(all, func(t *rule.Template) bool { return t == nil })
}

// Names are the variables that it needs, each once.
func (b *Browser) Names() []string {
	var names []string
	for _, t := range b.templates() {
		for _, name := range t.Names() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// browse has the login made.
func (m *Macro) browse(ctx context.Context, env Env) (*Result, error) {
	if env.Browse == nil {
		return nil, &StepError{Macro: m.Name, Kind: Malformed, Want: "a browser", Got: "none: it cannot be used here"}
	}
	values, err := env.Browse(ctx, m)
	if err != nil {
		return nil, err
	}
	return &Result{Values: values}, nil
}
