package browser

import (
	"context"
	_ "embed"
	"encoding/base64"
	"html/template"
	"strings"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-proxy/holdfast/macro"
)

// welcome is the page that tells a person what is wanted.
//
//go:embed welcome.html
var welcome string

// receive tells the person what is wanted, and waits until they begin; the login
// is then made in a page of its own. What they say afterwards comes by said.
func (t *tour) receive(ctx context.Context, said chan string) error {
	t.info = chromedp.FromContext(t.main).Target.TargetID
	begin := make(chan struct{}, 1)
	err := chromedp.Do(t.main, chromedp.ExposeFunc("holdfast", func(_ context.Context, word string) (chromedp.Void, error) {
		if word == "begin" {
			select {
			case begin <- struct{}{}:
			default:
			}
			return chromedp.Void{}, nil
		}
		select {
		case said <- word:
		default: // said often enough
		}
		return chromedp.Void{}, nil
	}))
	if err != nil {
		return err
	}
	text, err := t.welcome(ctx)
	if err != nil {
		return err
	}
	if _, err := through(ctx, t.main, func(ctx context.Context) (page.NavigateResult, error) {
		return chromedp.Call(ctx, page.Navigate, page.NavigateParams{URL: "data:text/html;charset=utf-8;base64," + base64.StdEncoding.EncodeToString([]byte(text))})
	}); err != nil {
		return err
	}
	t.login.Tell("a person is asked to log in")
	if attend := t.runner.config.Attend; attend != nil {
		t.groups.Go(func() { attend(t.life) })
	}
	select {
	case <-begin:
	case <-said: // whoever is done before they begin did not log in here
		return cancelled()
	case <-t.main.Done():
		return t.main.Err()
	case <-ctx.Done():
		return t.ended(ctx, ctx.Err(), "a person's login", "nobody who began")
	}
	t.login.Tell("the person begins")
	made, err := through(ctx, t.main, func(ctx context.Context) (target.CreateTargetResult, error) {
		return chromedp.CallBrowser(ctx, target.CreateTarget, target.CreateTargetParams{URL: "about:blank"})
	})
	if err != nil {
		return err
	}
	if t.known == nil {
		t.known = make(map[target.ID]bool)
	}
	return t.attach(ctx, made.TargetID)
}

func cancelled() error {
	return &macro.StepError{Kind: macro.Unanswered, Want: "a person's login", Got: "a person who cancelled it"}
}

// welcome is the page's text.
func (t *tour) welcome(ctx context.Context) (string, error) {
	tpl, err := template.New("welcome").Parse(welcome)
	if err != nil {
		return "", err
	}
	l := t.login
	var b strings.Builder
	start, err := t.start(ctx)
	if err != nil {
		return "", err
	}
	until := !l.How.Until.Empty()
	err = tpl.Execute(&b, map[string]any{"Identity": l.Identity, "Rules": strings.Join(l.Rules, ", "), "Name": l.Name, "URL": public(start),
		"Wait": l.How.Wait.String(), "Timeout": l.How.Timeout.String(), "Until": until, "Actions": len(l.How.Actions) > 0})
	return b.String(), err
}
