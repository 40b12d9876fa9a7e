package browser

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-proxy/holdfast/macro"
)

// marks is what a page has of what is looked for.
type marks struct {
	URL      string `json:"url"`
	Title    string `json:"title"`
	Selector bool   `json:"selector"`
	Text     bool   `json:"text"`
	Local    bool   `json:"local"`
	Session  bool   `json:"session"`
	Refused  string `json:"refused"`
}

// personDone is what a person says on the page that tells what is wanted; any
// other word cancels.
const personDone = "done"

// until waits until somebody is logged in: by Until, or by the person's word.
// Tokens that are wanted get a little time to come.
func (t *tour) until(ctx context.Context, person <-chan string) error {
	how := t.login.How
	switch {
	case !how.Until.Empty():
		if err := t.await(ctx, "until", &how.Until, person); err != nil {
			return err
		}
	case t.visible():
		if err := t.await(ctx, "until", nil, person); err != nil {
			return err
		}
	}
	settling, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for {
		if err := t.keep(ctx); err != nil {
			return err
		}
		if t.login.Lacks == nil || len(t.login.Lacks()) == 0 {
			return nil
		}
		if err := t.pause(settling); err != nil {
			if settling.Err() == nil || t.main.Err() != nil {
				return err
			}
			return nil // the session says what it lacks
		}
	}
}

// await waits for what a mark says; for a nil one only the person's word counts.
func (t *tour) await(ctx context.Context, name string, m *macro.BrowserMark, person <-chan string) error {
	var want string
	if m != nil {
		var err error
		if want, err = t.expand(ctx, name, m.URL); err != nil {
			return err
		}
	}
	missing := "the person's word"
	if m != nil {
		missing = "answer of the browser"
	}
	for {
		if m != nil {
			now, err := t.missing(ctx, m, want)
			if err == nil && now == "" {
				return nil
			}
			if err == nil {
				missing = now
			} else if !t.slow(err) {
				return err
			}
		}
		select {
		case said := <-person:
			if said == personDone {
				t.login.Tell("the person says that they are logged in")
				return nil
			}
			return cancelled()
		default:
		}
		if err := t.pause(ctx); err != nil {
			return t.ended(ctx, err, name, "no "+missing)
		}
	}
}

// missing is the first part of a mark that is not there; "" when all is.
func (t *tour) missing(ctx context.Context, m *macro.BrowserMark, address string) (string, error) {
	if m.Token != "" && (t.login.Has == nil || !t.login.Has(m.Token)) {
		return "token " + m.Token, nil
	}
	if m.Cookie != "" {
		cookies, err := t.cookies(ctx)
		if err != nil {
			return "", err
		}
		found := false
		for _, c := range cookies {
			found = found || c.Name == m.Cookie
		}
		if !found {
			return "cookie " + m.Cookie, nil
		}
	}
	if m.URL == nil && m.Selector == "" && m.Text == "" && m.Local == "" && m.Session == "" {
		return "", nil
	}
	missing := "page"
	for i := len(t.pages) - 1; i >= 0; i-- {
		got, err := ask[marks](ctx, t.pages[i], "mark", map[string]any{"selector": m.Selector, "text": m.Text, "local": m.Local, "session": m.Session})
		if errors.Is(err, errSelector) {
			return "", t.failed("a selector", m.Selector)
		}
		if err != nil {
			continue // it is being loaded, or gone
		}
		switch {
		case m.URL != nil && !at(got.URL, address):
			missing = "page at " + public(address)
		case m.Selector != "" && !got.Selector:
			missing = m.Selector
		case m.Text != "" && !got.Text:
			missing = "text " + m.Text
		case m.Local != "" && !got.Local:
			missing = "localStorage " + m.Local
		case m.Session != "" && !got.Session:
			missing = "sessionStorage " + m.Session
		default:
			return "", nil
		}
	}
	return missing, nil
}

// at reports whether a page is at an address: its path begins with it, or its
// whole URL.
func at(pageURL, want string) bool {
	if !strings.HasPrefix(want, "/") {
		return strings.HasPrefix(pageURL, want)
	}
	u, err := url.Parse(pageURL)
	return err == nil && u.Host != "" && strings.HasPrefix(u.EscapedPath(), want)
}

// cookies are all that the browser has.
func (t *tour) cookies(ctx context.Context) ([]*network.Cookie, error) {
	got, err := within(ctx, t.main, func(ctx context.Context) (storage.GetCookiesResult, error) {
		return chromedp.CallBrowser(ctx, storage.GetCookies, storage.GetCookiesParams{})
	})
	return got.Cookies, err
}
