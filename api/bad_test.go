package api_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/control"
)

// TestBadInput asks every operation for nonsense: no answer is an internal
// error, each that is none is JSON, and each refusal has a code and a next step.
func TestBadInput(t *testing.T) {
	w := newWorld(t, settings{reveal: true})
	draw := rand.New(rand.NewPCG(1, 2))
	values := []any{nil, "", "x", "-", "..", "%2e", "a/b", "\x00", "é\u202e", strings.Repeat("A", 5000), "true", "-1", "0", "99999999999999999999", "1e9",
		true, false, -1, 0, 1.5, 1e300, []any{}, []any{1}, map[string]any{}, map[string]any{"a": []any{nil}}, "emily", "shop", "login", "anonymous", "2020-13-40T99:00:00Z"}
	value := func() any { return values[draw.IntN(len(values))] }
	text := func() string {
		for {
			if s, ok := value().(string); ok {
				return s
			}
		}
	}
	param := regexp.MustCompile(`\{[^}]*\}`)
	names := regexp.MustCompile(`json:"([a-z_]+)`)
	for _, o := range control.Operations() {
		if o.Name == "run.get" || o.Name == "session.refresh" { // these may wait, as they say
			values = append(values, "nobody")
		}
		var known []string
		for i := range o.Params.NumField() {
			for _, m := range names.FindAllStringSubmatch(string(o.Params.Field(i).Tag), -1) {
				known = append(known, m[1])
			}
		}
		known = append(known, "identity", "limit", "cursor", "reveal", "session", "strange")
		for range 12 {
			path := "/api/v1" + param.ReplaceAllStringFunc(o.Path, func(string) string { return url.PathEscape(text() + "!") })
			body := ""
			if o.Method == http.MethodGet || o.Method == http.MethodDelete {
				q := url.Values{}
				for range draw.IntN(4) {
					q.Add(known[draw.IntN(len(known))], text())
				}
				path += "?" + q.Encode()
			} else {
				object := map[string]any{}
				for range draw.IntN(6) {
					object[known[draw.IntN(len(known))]] = value()
				}
				raw, err := json.Marshal(object)
				if err != nil {
					t.Fatal(err)
				}
				if body = string(raw); draw.IntN(4) == 0 {
					body = []string{"{", "[]", "null", `"x"`, "\xff\xfe", `{"a":1}{"b":2}`, strings.Repeat("[", 20000)}[draw.IntN(7)]
				}
			}
			a := w.ask(o.Method, path, body)
			if a.status >= 500 || !json.Valid([]byte(a.body)) {
				t.Errorf("%s %s %.200q is answered %d %.300s", o.Method, path, body, a.status, a.body)
			}
			if a.status >= 400 {
				var p struct{ Code, Detail, Next string }
				if json.Unmarshal([]byte(a.body), &p) != nil || p.Code == "" || p.Detail == "" || p.Next == "" {
					t.Errorf("%s %s %.200q: the problem lacks something: %.300s", o.Method, path, body, a.body)
				}
			}
		}
	}
}

// TestOperations does what a person does, and holds each answer against the
// document.
func TestOperations(t *testing.T) {
	w := newWorld(t, settings{store: keptFlow(t)})
	if status := w.me(); status != 200 {
		t.Fatalf("through the proxy: %d", status)
	}
	name := url.PathEscape
	for _, c := range []struct{ operation, path string }{
		{"status", "/status"}, {"metrics.summary", "/metrics/summary"}, {"identity.list", "/identities"}, {"session.list", "/sessions"},
		{"session.get", "/sessions/" + name("emily")}, {"token.list", "/tokens"}, {"variable.list", "/variables"}, {"rule.list", "/rules"},
		{"rule.get", "/rules/spare"}, {"macro.list", "/macros"}, {"macro.get", "/macros/login"}, {"run.list", "/runs"}, {"config.get", "/config"},
		{"trace.recent", "/trace"}, {"cookie.list", "/cookies"},
		{"flow.list", "/flows?limit=1&query=" + url.QueryEscape(`req.host.eq:"kept.example"`)}, {"flow.get", "/flows/64?body=100"}, {"flow.trace", "/flows/64/trace"},
	} {
		a := w.ask("GET", "/api/v1"+c.path, "")
		if a.status != 200 {
			t.Errorf("%s: %d %s", c.operation, a.status, a.body)
			continue
		}
		w.conforms(c.operation, a)
		if strings.Contains(a.body, "emilyspass") {
			t.Errorf("%s shows a password: %s", c.operation, a.body)
		}
	}
	run := &control.Run{}
	w.call("macro.test", map[string]any{"name": "login"}, run)
	if w.over(run); run.State != control.RunDone || run.Report == nil || !run.Report.OK || run.Report.Values["ACCESS"] != "***" {
		t.Errorf("the test of a macro: %+v", run)
	}
	w.call("session.refresh", map[string]any{"identity": "emily"}, run)
	if w.over(run); run.State != control.RunDone || len(run.Sessions) != 1 || run.Sessions[0].Generation != 2 {
		t.Errorf("a refresh: %+v", run)
	}
	w.call("session.refresh", map[string]any{"identity": "bob"}, run)
	if w.over(run); run.State != control.RunFailed || run.Error == nil || run.Error.Code != "session_locked" {
		t.Errorf("a refresh with a wrong password: %+v", run)
	}
	done := &control.Done{}
	if w.call("session.unlock", map[string]any{"identity": "bob"}, done); done.Changed != 1 {
		t.Errorf("an unlock: %+v", done)
	}
	w.call("rule.disable", map[string]any{"name": "shop"}, done)
	if status := w.me(); status != 401 {
		t.Errorf("with the rule off: %d", status)
	}
	w.call("rule.enable", map[string]any{"name": "shop"}, done)
	w.call("session.forget", map[string]any{"identity": "emily"}, done)
	if status := w.me(); status != 200 {
		t.Errorf("after the session was forgotten: %d", status)
	}
	if code := w.refused("token.list", map[string]any{"reveal": true}); code != control.ReasonHidden {
		t.Errorf("reveal: %s", code)
	}
	w.call("cookie.set", map[string]any{"name": "a", "value": "b", "domain": ".shop.example"}, done)
	var cookies control.Page[control.Cookie]
	if w.call("cookie.list", map[string]any{"domain": "shop.example"}, &cookies); len(cookies.Items) != 1 || cookies.Items[0].Domain != ".shop.example" || cookies.Items[0].Value != nil {
		t.Errorf("cookies: %+v", cookies)
	}
	if code := w.refused("flow.get", map[string]any{"id": "64", "reveal": true}); code != control.ReasonHidden {
		t.Errorf("reveal of a flow: %s", code)
	}
	if code := w.refused("flow.list", map[string]any{"query": "resp.code.eq:"}); code != control.ReasonQuery {
		t.Errorf("a query that is none: %s", code)
	}
	if code := w.refused("flow.delete", map[string]any{}); code != control.ReasonParameter {
		t.Errorf("a deletion of nothing: %s", code)
	}
	var deleted control.FlowsDeleted
	if w.call("flow.delete", map[string]any{"ids": []int64{64, 99999}}, &deleted); deleted.Deleted != 1 {
		t.Errorf("a deletion: %+v", deleted)
	}
	if code := w.refused("flow.get", map[string]any{"id": "64"}); code != control.ReasonNotFound {
		t.Errorf("a flow that is deleted: %s", code)
	}
	if a := w.ask("GET", "/metrics", ""); !strings.Contains(a.body, "holdfast_lockouts_total 1\n") || !strings.Contains(a.body, `holdfast_requests_total{identity="emily",tool="proxy"}`) && !strings.Contains(a.body, `holdfast_requests_total{identity="default",tool="proxy"}`) {
		t.Errorf("figures: %s", a.body)
	}
}

// TestEvents is a client that hears of a login.
func TestEvents(t *testing.T) {
	w := newWorld(t, settings{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var kinds []string
	var refresh sync.WaitGroup
	err := w.client.Follow(ctx, func() {
		refresh.Go(func() {
			if err := w.client.Call(ctx, "session.refresh", map[string]any{"identity": "emily"}, &control.Run{}); err != nil {
				t.Error(err)
				cancel() // there is nothing to hear
			}
		})
	}, func(e control.Event) bool {
		var s control.SessionEvent
		if e.Type != "session" || json.Unmarshal(e.Data, &s) != nil {
			return true
		}
		kinds = append(kinds, s.Kind+" "+s.Identity+" "+s.State)
		return s.Kind == "recovering"
	})
	refresh.Wait()
	if got := strings.Join(kinds, ", "); err != nil || got != "recovering emily recovering, recovered emily alive" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSlowListener is one that does not read.
func TestSlowListener(t *testing.T) {
	events := control.NewEvents()
	l := events.Listen()
	other := events.Listen()
	for range 300 {
		events.Warn("something")
		<-other.C
	}
	n := 0
	for range l.C {
		n++
	}
	if !l.TooSlow() || n > 256 || other.TooSlow() || events.Listeners() != 1 {
		t.Errorf("%d events waited; %t %t, %d listeners", n, l.TooSlow(), other.TooSlow(), events.Listeners())
	}
	events.Close()
}

func (w *world) conforms(operation string, a *answer) {
	w.t.Helper()
	faults, err := api.Conforms(operation, []byte(a.body))
	if err != nil {
		w.t.Error(err)
	}
	for _, f := range faults {
		w.t.Errorf("%s is not as the document says: %v", operation, f)
	}
}
