package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// run does the actions and waits until somebody is logged in.
func (t *tour) run(ctx context.Context) error {
	how := t.login.How
	person := make(chan string, 8)
	if t.visible() {
		if err := t.receive(ctx, person); err != nil {
			return err
		}
	}
	for err := t.look(ctx); err != nil; err = t.look(ctx) {
		if !t.slow(err) {
			return err
		}
		if ctx.Err() != nil {
			return t.failed("a page", "no answer of the browser after "+how.Timeout.String())
		}
	}
	start, err := t.start(ctx)
	if err != nil {
		return err
	}
	if start != "" {
		if err := t.open(ctx, "open", start); err != nil {
			return err
		}
	}
	for i := range how.Actions {
		if err := t.act(ctx, i, &how.Actions[i]); err != nil {
			return err
		}
	}
	return t.until(ctx, person)
}

// start is where the login begins; "" where nobody says.
func (t *tour) start(ctx context.Context) (string, error) {
	if t.login.How.URL == nil {
		return t.login.URL, nil
	}
	return t.expand(ctx, "url", t.login.How.URL)
}

// expand puts the values of variables in.
func (t *tour) expand(ctx context.Context, what string, tpl *rule.Template) (string, error) {
	if tpl == nil {
		return "", nil
	}
	lookup := t.login.Lookup
	if _, own := lookup(macro.NameTOTP); !own && t.login.Code != nil && slices.Contains(tpl.Names(), macro.NameTOTP) {
		code, err := t.login.Code(ctx)
		if err != nil {
			return "", &macro.StepError{Kind: macro.Failed, Want: "a one-time code for " + what, Got: "none", Cause: err}
		}
		lookup = func(name string) (string, bool) {
			if name == macro.NameTOTP {
				return code, true
			}
			return t.login.Lookup(name)
		}
	}
	text, missing := tpl.Expand(lookup)
	if len(missing) > 0 {
		return "", &macro.StepError{Kind: macro.MissingVariable, Want: "values for the variables of " + what, Got: "none for " + strings.Join(missing, ", ")}
	}
	return text, nil
}

// failed is an error of an action. Once credentials were sent, what does not
// come is a login that was refused; a person sees for themselves what it is.
func (t *tour) failed(want, got string) error {
	kind := macro.Unexpected
	switch {
	case t.visible():
		kind = macro.Unanswered
	case t.sent:
		kind = macro.Rejected
	}
	return &macro.StepError{Kind: kind, Want: want, Got: got + "; the page is " + t.where()}
}

// open goes to an address.
func (t *tour) open(ctx context.Context, name, address string) error {
	if strings.HasPrefix(address, "/") {
		at, err := ask[place](ctx, t.newest(), "where", nil)
		if err != nil {
			return t.failed(name, "no page to go on from")
		}
		base, err := url.Parse(at.URL)
		if err != nil {
			return t.failed(name, "no page to go on from")
		}
		address = base.Scheme + "://" + base.Host + address
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return t.failed(name, "an address that is not of http or https") // a file of this machine, out of a variable
	}
	p := t.newest()
	if p == nil {
		return t.failed(name, "no page that is open")
	}
	opening, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	res, err := chromedp.Call(opening, page.Navigate, page.NavigateParams{URL: address})
	if err != nil {
		if ctx.Err() != nil {
			return &macro.StepError{Kind: macro.Transport, Want: name + " " + public(address), Got: "no answer in time"}
		}
		return err
	}
	if res.ErrorText != "" {
		return &macro.StepError{Kind: macro.Transport, Want: name + " " + public(address), Got: res.ErrorText}
	}
	at, err := ask[place](ctx, p, "where", nil)
	for err != nil && t.slow(err) && ctx.Err() == nil {
		at, err = ask[place](ctx, p, "where", nil)
	}
	if err == nil && (at.Status == 429 || at.Status >= 502 && at.Status <= 504) {
		return &macro.StepError{Kind: macro.Transient, Want: name + " " + public(address), Got: fmt.Sprintf("status %d", at.Status), Status: at.Status}
	}
	t.login.Tell("%s %s: %d", name, public(address), at.Status)
	return nil
}

// act does one action, as soon as the page is ready for it.
func (t *tour) act(ctx context.Context, i int, a *macro.BrowserAction) error {
	name := fmt.Sprintf("action %d, %s", i+1, a.Do)
	if a.Selector != "" {
		name += " " + a.Selector
	}
	// A one-time code is drawn when its field is there, and once.
	value := sync.OnceValues(func() (string, error) { return t.expand(ctx, name, a.Value) })
	switch a.Do {
	case macro.BrowserGoto:
		address, err := value()
		if err != nil {
			return err
		}
		return t.open(ctx, name, address)
	case macro.BrowserWait:
		if err := t.await(ctx, name, &a.Mark, nil); err != nil {
			return err
		}
		t.login.Tell("%s", name)
		return nil
	}
	began, why := time.Now(), "in a page that does not answer"
	for {
		if p := t.newest(); p != nil {
			done, reason, err := t.try(ctx, p, a, value, time.Since(began) > settle)
			if done {
				t.login.Tell("%s", name)
				return nil
			}
			var step *macro.StepError
			switch {
			case errors.As(err, &step):
				return err
			case errors.Is(err, errSelector):
				return t.failed(name, "a selector that is none")
			case err == nil:
				why = reason
			}
		}
		if err := t.pause(ctx); err != nil {
			return t.ended(ctx, err, name, a.Selector+" is "+why)
		}
	}
}

// pause waits for a little, looks for new pages, and for a page that says no.
func (t *tour) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.main.Done():
		return t.main.Err()
	case <-time.After(poll):
	}
	if err := t.look(ctx); err != nil && !t.slow(err) {
		return err
	}
	return t.refusal(ctx)
}

// slow reports whether an error only says that the browser did not answer in
// time, so that it can be asked again while there is time. The end of the login's
// own time comes as such an error too, and is told by whoever waits.
func (t *tour) slow(err error) bool {
	return t.main.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
}

// refusal is the error of a page that says no to the credentials.
func (t *tour) refusal(ctx context.Context) error {
	if len(t.login.How.Refused) == 0 || !t.sent {
		return nil
	}
	for _, p := range t.pages {
		m, err := ask[marks](ctx, p, "mark", map[string]any{"refused": t.login.How.Refused})
		if err == nil && m.Refused != "" {
			return &macro.StepError{Kind: macro.Rejected, Want: "a login", Got: "a page that shows " + m.Refused + " (fail_if); it is " + t.where()}
		}
	}
	return nil
}

// ended tells why waiting ended.
func (t *tour) ended(ctx context.Context, err error, want, got string) error {
	if t.main.Err() != nil || ctx.Err() == nil {
		return err
	}
	return t.failed(want, got+" after "+t.login.How.Timeout.String())
}

// answer is what an operation of page.js says.
type answer struct {
	Why  string  `json:"why"`
	Done bool    `json:"done"`
	X    float64 `json:"x"`
	Y    float64 `json:"y"`
}

// try does an action if the page is ready for it; else it says why not.
func (t *tour) try(ctx context.Context, p *tab, a *macro.BrowserAction, value func() (string, error), force bool) (done bool, why string, err error) {
	args := map[string]any{"selector": a.Selector, "force": force}
	var r answer
	switch a.Do {
	case macro.BrowserClick:
		if r, err = ask[answer](ctx, p, "click", args); err == nil && r.Why == "" && !r.Done {
			err = t.input(ctx, p, chromedp.MouseClickXY(r.X, r.Y))
		}
	case macro.BrowserFill:
		if r, err = ask[answer](ctx, p, "focus", args); err == nil && r.Why == "" {
			var text string
			if text, err = value(); err == nil {
				err = t.fill(ctx, p, args, text)
			}
		}
	case macro.BrowserPress:
		if a.Selector != "" {
			r, err = ask[answer](ctx, p, "focus", args)
		}
		if err == nil && r.Why == "" {
			var name string
			if name, err = value(); err == nil {
				err = t.input(ctx, p, chromedp.KeyEvent(key(name)))
			}
		}
	case macro.BrowserSelect:
		if args["value"], err = value(); err == nil {
			r, err = ask[answer](ctx, p, "select", args)
		}
	case macro.BrowserCheck:
		r, err = ask[answer](ctx, p, "check", args)
	}
	if err != nil || r.Why != "" {
		return false, r.Why, err
	}
	if a.Do == macro.BrowserFill && a.Value != nil && len(a.Value.Names()) > 0 {
		t.sent = true // from now on what fails may be a refusal
	}
	return true, "", nil
}

// fill writes into the field that has the focus, as a keyboard does that
// writes a word at once. A field that does not take it is set.
func (t *tour) fill(ctx context.Context, p *tab, args map[string]any, value string) error {
	err := t.do(ctx, p, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, input.InsertText, input.InsertTextParams{Text: value})
		return err
	}))
	if err != nil {
		return err
	}
	if n, err := ask[int](ctx, p, "filled", args); err == nil && n == 0 && value != "" || value == "" {
		args["value"] = value
		_, err = ask[answer](ctx, p, "set", args)
		return err
	}
	return nil
}

// input sends events to a page. That it does not answer to all of them is no
// error: it may close at the first.
func (t *tour) input(ctx context.Context, p *tab, action chromedp.Action[chromedp.Void]) error {
	if err := t.do(ctx, p, action); ctx.Err() != nil || t.main.Err() != nil {
		return err
	}
	return nil
}

func (t *tour) do(ctx context.Context, p *tab, action chromedp.Action[chromedp.Void]) error {
	_, err := within(ctx, p.ctx, func(ctx context.Context) (chromedp.Void, error) { return chromedp.Run(ctx, action) })
	return err
}

// Keys are the names of keys that can be pressed, besides single letters.
func Keys() []string { return []string{"Enter", "Tab", "Escape", "Space", "ArrowDown", "ArrowUp"} }

func key(name string) string {
	switch name {
	case "Enter":
		return kb.Enter
	case "Tab":
		return kb.Tab
	case "Escape":
		return kb.Escape
	case "Space":
		return " "
	case "ArrowDown":
		return kb.ArrowDown
	case "ArrowUp":
		return kb.ArrowUp
	}
	return name
}
