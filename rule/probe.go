package rule

import (
	"fmt"
	"strings"
	"time"
)

// Probe is a macro that is asked now and then whether the session lives, for
// applications whose answers never show that it does not. It succeeds only with
// a live session.
type Probe struct {
	Macro string        // by name or ID
	Every int           // asked before each so many requests; 0: not by their number
	For   time.Duration // how long a good word holds; 0: not by time
	// OnSuspicion asks as well when an answer is not what the same request
	// got before: a redirect for a 2xx, HTML for JSON, a body that collapsed.
	OnSuspicion bool
}

// compile says what is wrong with the probe.
func (p *Probe) compile() error {
	switch {
	case strings.TrimSpace(p.Macro) == "":
		return &Error{Key: "macro", Problem: "the probe has no macro", Next: "name the macro that asks: probe: {macro: whoami, every: 100}"}
	case p.Every < 0:
		return &Error{Key: "every", Problem: fmt.Sprintf("%d is no number of requests", p.Every), Next: "write 1 or more"}
	case p.For < 0:
		return &Error{Key: "for", Problem: fmt.Sprintf("%s is no time", p.For), Next: "write a time such as 60s"}
	}
	return nil
}

// warning says why the probe of a rule is never asked, or asked in vain; "" when
// it is of use.
func (p *Probe) warning(r *Rule) string {
	switch {
	case !r.Recovers():
		return fmt.Sprintf("never asks its probe %s: it has no reauth_macro to get a new session with", p.Macro)
	case p.Every == 0 && p.For == 0 && !p.OnSuspicion:
		return fmt.Sprintf("never asks its probe %s: it has neither every, for nor on_suspicion", p.Macro)
	}
	return ""
}
