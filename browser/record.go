package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-proxy/holdfast/macro"
)

// recorder is record.js.
//
//go:embed record.js
var recorder string

// Recording is what a person did until they were logged in.
type Recording struct {
	URL   string
	Steps []RecordedStep
	// Path, Cookie and Local are signs of the login: the path of the last page,
	// a cookie and a key of localStorage that were not there at first; "" where
	// there is none.
	Path, Cookie, Local string
}

// RecordedStep is one thing that they did.
type RecordedStep struct {
	Do       string `json:"do"`
	Selector string `json:"selector"`
	Value    string `json:"value"`
	Secret   string `json:"secret"` // the variable whose value was typed; Value is empty then
}

// Record opens a window at an address and writes down what a person does there,
// until they close it, or ctx ends, or done is closed. It fails when they did
// nothing.
func (r *Runner) Record(ctx context.Context, address, proxy string, done <-chan struct{}) (*Recording, error) {
	path, err := Find(r.config.Path)
	if err != nil {
		return nil, err
	}
	l := &Login{How: &macro.Browser{Visible: true}, Proxy: proxy, Tell: func(string, ...any) {}}
	all, cancelAll := chromedp.NewExecAllocator(context.WithoutCancel(ctx), r.options(path, l)...)
	defer cancelAll()
	quiet := func(string, ...any) {}
	main, cancelMain := chromedp.NewContext(all, chromedp.WithErrorf(quiet), chromedp.WithLogf(quiet))
	defer cancelMain()
	if err := chromedp.Do(main); err != nil {
		if errors.Is(err, chromedp.ErrNoDisplay) {
			return nil, errors.New(noDisplay)
		}
		return nil, fmt.Errorf("%s did not start: %w", path, err)
	}
	t := &tour{runner: r, login: l, main: main}
	t.life, t.end = context.WithCancel(main)
	defer t.close()
	w := &watcher{tour: t, tabs: make(map[*tab]bool), recording: Recording{URL: address}}
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	for w.look(ctx) == nil {
		select {
		case <-ctx.Done():
		case <-done:
		case <-main.Done():
		case <-time.After(poll):
			continue
		}
		break
	}
	_ = w.look(context.WithoutCancel(ctx)) // where they ended; without it what was seen last stands
	return w.end()
}

// watcher writes down what happens in the pages of a tour.
type watcher struct {
	tour    *tour
	tabs    map[*tab]bool // that are listened to; true: they tell
	cookies []string      // names of those that were there at first
	local   []string      // likewise

	mu        sync.Mutex // guards recording
	recording Recording
}

func (w *watcher) begin(ctx context.Context) error {
	t := w.tour
	for err := t.look(ctx); err != nil; err = t.look(ctx) {
		if !t.slow(err) || ctx.Err() != nil {
			return err
		}
	}
	if err := w.watch(ctx); err != nil {
		return err
	}
	if err := t.open(ctx, "open", w.recording.URL); err != nil {
		return err
	}
	var err error
	for w.cookies, w.local, err = w.state(ctx); err != nil && t.slow(err) && ctx.Err() == nil; {
		w.cookies, w.local, err = w.state(ctx)
	}
	if attend := t.runner.config.Attend; attend != nil {
		t.groups.Go(func() { attend(t.life) })
	}
	return nil
}

// watch begins to listen to pages that are new. One that is slow is asked again
// the next time: record.js begins once in each document.
func (w *watcher) watch(ctx context.Context) error {
	for _, p := range w.tour.pages {
		telling, listened := w.tabs[p]
		if telling {
			continue
		}
		if !listened {
			err := chromedp.Listen(p.ctx, func(event any) {
				if called, ok := event.(*runtime.EventBindingCalled); ok && called.Name == "holdfastRecord" {
					w.add(called.Payload)
				}
			})
			if err != nil {
				return err
			}
		}
		_, err := within(ctx, p.ctx, func(ctx context.Context) (runtime.AddBindingParams, error) {
			_, err := chromedp.Call(ctx, runtime.AddBinding, runtime.AddBindingParams{Name: "holdfastRecord"})
			if err == nil {
				_, err = chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: recorder})
			}
			if err == nil {
				_, err = chromedp.Run(ctx, chromedp.Evaluate[chromedp.Void](recorder))
			}
			return runtime.AddBindingParams{}, err
		})
		if err != nil && w.tour.main.Err() != nil {
			return err
		}
		w.tabs[p] = err == nil || !w.tour.slow(err)
	}
	return nil
}

// add takes a step. A field that is written in letter by letter is one step.
func (w *watcher) add(payload string) {
	var s RecordedStep
	if json.Unmarshal([]byte(payload), &s) != nil || !slices.Contains(macro.BrowserActions(), s.Do) || len(payload) > 16<<10 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	steps := w.recording.Steps
	for i := len(steps) - 1; i >= 0 && s.Do == macro.BrowserFill && steps[i].Do != macro.BrowserClick && steps[i].Do != macro.BrowserPress; i-- {
		if steps[i].Do == s.Do && steps[i].Selector == s.Selector {
			steps[i] = s
			return
		}
	}
	if n := len(steps); n > 0 && s.Do == macro.BrowserFill && steps[n-1].Do == macro.BrowserPress && steps[n-1].Selector == s.Selector {
		return // what was written is told once more when Enter is pressed
	}
	if len(steps) < macro.MaxActions {
		w.recording.Steps = append(steps, s)
	}
}

// look follows the pages, and remembers how things stand.
func (w *watcher) look(ctx context.Context) error {
	if err := w.tour.look(ctx); err != nil {
		if w.tour.slow(err) && ctx.Err() == nil {
			return nil // the next time
		}
		return err
	}
	if err := w.watch(ctx); err != nil {
		return err
	}
	p := w.tour.newest()
	if p == nil {
		return errors.New("the window was closed")
	}
	at, err := ask[place](ctx, p, "where", nil)
	if err != nil {
		return nil // it is being loaded
	}
	cookies, local, err := w.state(ctx)
	if err != nil {
		return nil // likewise
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.recording
	first, _ := url.Parse(r.URL)
	if now, err := url.Parse(at.URL); err == nil && now.Host != "" {
		if r.Path = ""; first != nil && now.EscapedPath() != first.EscapedPath() && len(now.EscapedPath()) > 1 {
			r.Path = now.EscapedPath()
		}
	}
	r.Cookie, r.Local = fresh(cookies, w.cookies), fresh(local, w.local)
	return nil
}

// fresh is the first name that was not there before; one that sounds like a
// session goes first.
func fresh(now, before []string) string {
	found := ""
	for _, name := range now {
		if slices.Contains(before, name) {
			continue
		}
		lower := strings.ToLower(name)
		if strings.Contains(lower, "sess") || strings.Contains(lower, "auth") || strings.Contains(lower, "token") || strings.Contains(lower, "sid") {
			return name
		}
		if found == "" {
			found = name
		}
	}
	return found
}

// state lists the names of cookies, and of keys in localStorage.
func (w *watcher) state(ctx context.Context) (cookies, local []string, err error) {
	all, err := w.tour.cookies(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range all {
		cookies = append(cookies, c.Name)
	}
	if p := w.tour.newest(); p != nil {
		local, err = ask[[]string](ctx, p, "keys", nil)
	}
	return cookies, local, err
}

func (w *watcher) end() (*Recording, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.recording.Steps) == 0 {
		return nil, errors.New("nothing was done in the window")
	}
	r := w.recording
	return &r, nil
}

// YAML is the recording as a browser of a configuration with that name.
func (r *Recording) YAML(name string) string {
	var b strings.Builder
	q := func(s string) string { raw, _ := json.Marshal(s); return string(raw) } // JSON is YAML
	var variables []string
	for _, s := range r.Steps {
		if s.Secret != "" && s.Secret != macro.NameTOTP && !slices.Contains(variables, s.Secret) {
			variables = append(variables, s.Secret)
		}
	}
	fmt.Fprintf(&b, "# Recorded at %s. holdfast check reads it; add rules whose reauth_macro names it.\n", public(r.URL))
	if len(variables) > 0 {
		b.WriteString("variables:\n")
	}
	for _, v := range variables {
		fmt.Fprintf(&b, "  %s: \"${env:%s}\"\n", v, v)
	}
	fmt.Fprintf(&b, "browsers:\n  - name: %s\n    url: %s\n    steps:\n", q(name), q(r.URL))
	for _, s := range r.Steps {
		value := s.Value
		if s.Secret != "" {
			value = "{{" + s.Secret + "}}"
		}
		switch s.Do {
		case macro.BrowserClick, macro.BrowserCheck:
			fmt.Fprintf(&b, "      - %s: %s\n", s.Do, q(s.Selector))
		case macro.BrowserPress:
			fmt.Fprintf(&b, "      - press: {selector: %s, key: %s}\n", q(s.Selector), q(value))
		default:
			fmt.Fprintf(&b, "      - %s: {selector: %s, value: %s}\n", s.Do, q(s.Selector), q(value))
		}
	}
	var until []string
	for _, m := range []struct{ key, value string }{{"url", r.Path}, {"local_storage", r.Local}, {"cookie", r.Cookie}} {
		if m.value != "" {
			until = append(until, m.key+": "+q(m.value))
		}
	}
	if len(until) > 0 {
		fmt.Fprintf(&b, "    until: {%s}\n", strings.Join(until, ", "))
	}
	return b.String()
}
