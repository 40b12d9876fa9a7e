package holdfast

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/holdfast-proxy/holdfast/browser"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// ToolBrowser labels the requests of browsers that logins are made in.
const ToolBrowser = "browser"

// BrowserProblems says what keeps the file's logins in a browser from being made
// on this machine, for people: there is no browser, or no display for a window.
func BrowserProblems(file *config.File) []string {
	return browserProblems(file, browser.Config{Path: file.Browser.Path})
}

func browserProblems(file *config.File, c browser.Config) (problems []string) {
	wanted, person := false, ""
	for _, m := range file.Macros {
		if m.Browser == nil {
			continue
		}
		if wanted = true; m.Browser.Visible {
			person = fmt.Sprintf("browser %q", m.Name)
		}
	}
	for i := range file.Rules {
		r := &file.Rules[i]
		if r.ByPerson() || slices.ContainsFunc(r.Actions, func(a rule.Action) bool { return a.RecoverInBrowser != nil }) {
			wanted, person = true, fmt.Sprintf("rule %q", r.Name)
		}
	}
	if !wanted {
		return nil
	}
	if _, err := browser.Find(c.Path); err != nil {
		problems = append(problems, err.Error())
	}
	if person != "" && !c.Hidden && !browser.HasDisplay() {
		problems = append(problems, person+" has a person log in, and there is no display for the window: start Holdfast where they sit (DISPLAY and WAYLAND_DISPLAY are empty)")
	}
	return problems
}

// newBrowser prepares for logins in a browser. That there is none is told at
// once, and again where it is needed.
func (h *Holdfast) newBrowser(file *config.File) *browser.Runner {
	c := h.config.Browser
	if c.Path == "" {
		c.Path = file.Browser.Path
	}
	if c.AtOnce == 0 {
		c.AtOnce = file.Browser.AtOnce
	}
	c.SPKI, c.Home = h.ca.SPKI(), h.config.Home
	if h.config.Warn != nil {
		for _, problem := range browserProblems(file, c) {
			h.config.Warn(problem)
		}
	}
	return browser.New(c)
}

// browse makes a login in a browser, whose traffic comes back to us: by a
// listener of its own, past the rules, and through l.
func (h *Holdfast) browse(ctx context.Context, e *edition, l *session.Login) error {
	address, end, err := h.serveBrowser(ctx, l.Identity, l.Stage(e.sending()))
	if err != nil {
		return err
	}
	defer end()
	return e.browser.Login(ctx, &browser.Login{Name: l.Name, How: l.How, Identity: l.Identity, Rules: l.Rules, URL: l.URL, Proxy: address,
		Lookup: l.Lookup, Code: l.Code, Has: l.Has, Lacks: l.Lacks, Put: l.Put, PutCookie: l.PutCookie, Tell: l.Tell})
}

// serveBrowser opens a port for one browser.
func (h *Holdfast) serveBrowser(ctx context.Context, identity string, handler flow.Handler) (address string, end func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("no port for the browser: %w", err)
	}
	c := h.proxyConfig(h.record.ours(h.history.stage(handler)))
	c.Tool, c.Password = ToolBrowser, ""
	c.Limits.Connections = 1000
	server := proxy.New(c)
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(context.WithoutCancel(ctx), &proxy.Listener{Listener: ln, Label: "browser", Tool: ToolBrowser, Identity: identity})
	}()
	return ln.Addr().String(), func() {
		server.Close()
		ln.Close()
		<-served
	}, nil
}

// RecordBrowser opens a window at an address and writes down what a person does
// there until they close it, ctx ends, or done is closed. The window's traffic
// comes by a port of its own, past the rules; Config.Record keeps it.
func (h *Holdfast) RecordBrowser(ctx context.Context, address string, done <-chan struct{}) (*browser.Recording, error) {
	at, end, err := h.serveBrowser(ctx, "", h.config.Record.stage(h.holds.Load().sending()))
	if err != nil {
		return nil, err
	}
	defer end()
	return h.holds.Load().browser.Record(ctx, address, at, done)
}

// noBrowser stands for the browser of an engine that sends nothing.
func noBrowser(context.Context, *session.Login) error {
	return &flow.Error{Reason: flow.ReasonRecovery, Detail: "no browser is opened here"}
}
