package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// Bounds on what is looked at and waited for in pages.
const (
	maxPages   = 8                // open at a time; further ones are not looked at
	maxDialogs = 50               // accepted of one page; further ones are left
	askTimeout = 5 * time.Second  // for one answer of a page
	settle     = 10 * time.Second // for tokens to come behind the sign of a login
	whereTries = 4                // to learn the address of a page, once time is over
)

// script is page.js.
//
//go:embed page.js
var script string

// tour is one browser while a login is made in it.
type tour struct {
	runner *Runner
	login  *Login
	main   context.Context // of the first page
	life   context.Context // ends with the tour
	end    context.CancelFunc

	pages  []*tab // the newest last
	known  map[target.ID]bool
	info   target.ID // the page that tells a person what is wanted
	sent   bool      // credentials were
	crowd  bool      // too many pages were told
	groups sync.WaitGroup
}

// tab is a page.
type tab struct {
	id     target.ID
	ctx    context.Context
	cancel context.CancelFunc
}

func (t *tour) close() {
	t.end()
	for _, p := range t.pages {
		p.cancel()
	}
	t.groups.Wait()
}

// look learns which pages there are.
func (t *tour) look(ctx context.Context) error {
	list, err := within(ctx, t.main, chromedp.Targets)
	if err != nil {
		return err
	}
	if t.known == nil {
		t.known = make(map[target.ID]bool)
	}
	open := make(map[target.ID]bool)
	for _, i := range list {
		if i.Type != "page" || strings.HasPrefix(i.URL, "devtools:") {
			continue
		}
		open[i.TargetID] = true
		if t.known[i.TargetID] || i.TargetID == t.info {
			continue
		}
		if len(t.pages) >= maxPages {
			if !t.crowd {
				t.crowd = true
				t.login.Tell("more than %d pages are open; the newest are not looked at", maxPages)
			}
			continue
		}
		if err := t.attach(ctx, i.TargetID); err != nil {
			return err
		}
	}
	t.pages = slices.DeleteFunc(t.pages, func(p *tab) bool {
		if gone := !open[p.id]; gone {
			p.cancel()
			return true
		}
		return false
	})
	return nil
}

// attach begins to look at a page.
func (t *tour) attach(ctx context.Context, id target.ID) error {
	p := &tab{id: id, ctx: t.main, cancel: func() {}}
	if id != chromedp.FromContext(t.main).Target.TargetID {
		// It is left open where attaching takes too long, to try again later.
		pctx, cancel := chromedp.NewContext(t.main, chromedp.WithTargetID(id), chromedp.WithDetachOnCancel())
		attached := make(chan error, 1)
		go func() { attached <- chromedp.Do(pctx) }()
		select {
		case err := <-attached:
			if err != nil {
				cancel()
				return nil // it is gone again
			}
		case <-time.After(askTimeout): // of a page that is at a standstill
			cancel()
			<-attached
			return nil
		}
		p.ctx, p.cancel = pctx, cancel
	}
	t.known[id] = true
	t.pages = append(t.pages, p)
	if !t.visible() || t.runner.config.Hidden {
		t.dialogs(p)
	}
	return nil
}

// dialogs accepts what a page says in dialogs, which would keep it from going
// on.
func (t *tour) dialogs(p *tab) {
	ctx, cancel := context.WithCancel(p.ctx)
	stop := p.cancel
	p.cancel = func() { cancel(); stop() }
	events := chromedp.Events(ctx, page.JavascriptDialogOpening)
	t.groups.Go(func() {
		n := 0
		for e, err := range events {
			if err != nil || n == maxDialogs {
				return
			}
			n++
			t.login.Tell("the page says (%s), which is accepted", e.Type)
			_, _ = within(ctx, p.ctx, func(ctx context.Context) (page.HandleJavaScriptDialogParams, error) {
				_, err := chromedp.Call(ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
				return page.HandleJavaScriptDialogParams{}, err
			})
		}
	})
}

// within asks something in a context of chromedp's, until ctx ends or for
// askTimeout.
func within[T any](ctx, in context.Context, ask func(context.Context) (T, error)) (T, error) {
	asking, cancel := context.WithTimeout(in, askTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return ask(asking)
}

// through is within for what cannot be asked twice, or is not worth it: it waits
// until ctx ends.
func through[T any](ctx, in context.Context, ask func(context.Context) (T, error)) (T, error) {
	asking, cancel := context.WithCancel(in)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return ask(asking)
}

// ask runs an operation of page.js in a page.
func ask[T any](ctx context.Context, p *tab, op string, args map[string]any) (T, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		var none T
		return none, err
	}
	name, _ := json.Marshal(op)
	got, err := within(ctx, p.ctx, func(ctx context.Context) (T, error) {
		return chromedp.Run(ctx, chromedp.Evaluate[T](strings.TrimSpace(script)+"("+string(name)+", "+string(raw)+")"))
	})
	var thrown *chromedp.ExceptionError
	if errors.As(err, &thrown) && strings.Contains(thrown.Error(), "is not a valid selector") {
		return got, errSelector
	}
	return got, err
}

var errSelector = errors.New("this is no selector")

// newest is the page that actions are done in; nil while there is none.
func (t *tour) newest() *tab {
	if len(t.pages) == 0 {
		return nil
	}
	return t.pages[len(t.pages)-1]
}

// where names the newest page: its address without query, and its title.
func (t *tour) where() string {
	p := t.newest()
	if p == nil {
		return "no page"
	}
	for range whereTries {
		at, err := ask[place](context.WithoutCancel(p.ctx), p, "where", nil)
		if err == nil {
			return at.String()
		}
		if !t.slow(err) {
			break
		}
	}
	return "a page that does not answer"
}

type place struct {
	URL    string `json:"url"`
	Title  string `json:"title"`
	Status int    `json:"status"`
}

func (p place) String() string {
	text := public(p.URL)
	if p.Title != "" {
		title := []rune(p.Title)
		text += fmt.Sprintf(" (%q)", string(title[:min(len(title), 60)]))
	}
	return text
}

// public is a URL without what may be secret in it.
func public(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" {
		scheme, _, _ := strings.Cut(address, ":")
		return scheme + ":…"
	}
	u.User, u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = nil, "", "", "", false
	return u.String()
}

// screenshot keeps a picture of the newest page, mode 0600, in the home
// directory. One that is taken later replaces it.
func (t *tour) screenshot() {
	p := t.newest()
	if p == nil || t.runner.config.Home == "" {
		return
	}
	picture, err := within(context.Background(), p.ctx, func(ctx context.Context) ([]byte, error) { return chromedp.Run(ctx, chromedp.CaptureScreenshot()) })
	name := "browser-" + safe(t.login.Name) + "-" + safe(t.login.Identity) + ".png"
	if err == nil {
		err = os.WriteFile(filepath.Join(t.runner.config.Home, name), picture, 0o600)
	}
	if err != nil {
		t.login.Tell("no picture: %v", errors.Unwrap(err))
		return
	}
	t.login.Tell("a picture of the page is %s in the home directory", name)
}

// safe is a name as part of a file's name.
func safe(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
}
