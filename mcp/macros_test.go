package mcp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/holdfast-proxy/holdfast/control"
)

// TestMacros does each action of the tool macros that runs and switches.
func TestMacros(t *testing.T) {
	w := newWorld(t, settings{})
	m := w.connect(nil, false)
	var macros control.Page[control.Macro]
	m.done(&macros, "macros", map[string]any{"action": "list_macros"})
	if len(macros.Items) != 1 || macros.Items[0].Produces[0] != "ACCESS" {
		t.Errorf("list_macros: %+v", macros)
	}
	var one control.Macro
	m.done(&one, "macros", map[string]any{"action": "get_macro", "name": "login"})
	if one.Name != "login" || one.Steps[0].Takes[0] == "" {
		t.Errorf("get_macro: %+v", one)
	}
	var run control.Run
	a := m.done(&run, "macros", map[string]any{"action": "test_macro", "name": "login", "identity": "emily"})
	if run.State != control.RunDone || run.Report == nil || !run.Report.OK || run.Report.Requests[0].Got != "(text 2)" {
		t.Errorf("test_macro: %+v", run.Report)
	}
	if !strings.Contains(a.text, " text=1 of=report.requests[0].sent bytes=") || !strings.Contains(a.text, "POST /auth/login") {
		t.Errorf("test_macro: what was sent is not there: %s", a.text)
	}
	var tokens control.Page[control.Secret]
	if m.done(&tokens, "session", map[string]any{"action": "tokens"}); len(tokens.Items) != 0 {
		t.Errorf("a test kept tokens: %+v", tokens)
	}
	m.done(&run, "macros", map[string]any{"action": "run_macro", "name": "login"})
	if m.done(&tokens, "session", map[string]any{"action": "tokens"}); run.State != control.RunDone || len(tokens.Items) != 1 {
		t.Errorf("run_macro: %+v, %+v", run, tokens)
	}
	var runs control.Page[control.Run]
	m.done(&runs, "macros", map[string]any{"action": "list_runs"})
	if len(runs.Items) != 2 || runs.Items[0].Report != nil {
		t.Errorf("list_runs: %+v", runs)
	}
	m.done(&run, "macros", map[string]any{"action": "get_run", "id": run.ID})
	if run.Report == nil {
		t.Error("get_run: no report")
	}
	m.done(&run, "macros", map[string]any{"action": "cancel_run", "id": run.ID})
	if run.State != control.RunDone {
		t.Errorf("cancel_run of one that is over: %+v", run)
	}
	rules := func(want string) {
		t.Helper()
		var page control.Page[control.Rule]
		m.done(&page, "macros", map[string]any{"action": "list_rules"})
		got := ""
		for _, r := range page.Items {
			got += fmt.Sprintf("%s %t ", r.Name, r.Enabled)
		}
		if got != want {
			t.Errorf("the rules are %q; want %q", got, want)
		}
	}
	rules("shop true spare false ")
	m.done(nil, "macros", map[string]any{"action": "enable_rule", "name": "spare"})
	m.done(nil, "macros", map[string]any{"action": "disable_rule", "name": "shop"})
	rules("shop false spare true ")
	if code := m.fails("macros", map[string]any{"action": "run_macro", "name": "nothing"}); code != control.ReasonNotFound {
		t.Errorf("a macro that is not there: %s", code)
	}
}

const slowRules = `
macros:
  - name: slow
    steps:
      - request: |
          GET {{SLOW}}/slow HTTP/1.1

`

// slow is a world with a macro that waits for gate.
func slow(t *testing.T) (w *world, gate chan struct{}) {
	gate = make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(origin.Close)
	return newWorld(t, settings{rules: strings.ReplaceAll(slowRules, "{{SLOW}}", origin.URL)}), gate
}

// TestProgress has a run told of, and ended with its call, by HTTP with and
// without sessions.
func TestProgress(t *testing.T) {
	w, _ := slow(t)
	for name, older := range map[string]bool{"without sessions": false, "with sessions": true} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan *sdk.ProgressNotificationParams, 100)
			m := w.connect(&sdk.ClientOptions{ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { heard <- r.Params }}, older)
			m.t = t
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			params := &sdk.CallToolParams{Name: "macros", Arguments: map[string]any{"action": "run_macro", "name": "slow", "wait": 900}}
			params.SetProgressToken("p1")
			ended := make(chan error, 1)
			go func() {
				_, err := m.CallTool(ctx, params)
				ended <- err
			}()
			last := -1.0
			for range 3 {
				select {
				case p := <-heard:
					if p.ProgressToken != "p1" || p.Progress <= last || !strings.Contains(p.Message, "running: ") {
						t.Fatalf("progress: %+v after %v", p, last)
					}
					last = p.Progress
				case err := <-ended:
					t.Fatalf("the call ended: %v", err)
				case <-time.After(patience):
					t.Fatal("no progress")
				}
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the call ended with %v", err)
			}
			for began := time.Now(); ; {
				var runs control.Page[control.Run]
				m.done(&runs, "macros", map[string]any{"action": "list_runs"})
				if got := runs.Items[len(runs.Items)-1].State; got == control.RunCancelled {
					break
				} else if time.Since(began) > patience {
					t.Fatalf("the run is %s", got)
				}
			}
		})
	}
}

// TestWait has a run go on behind its call.
func TestWait(t *testing.T) {
	w, gate := slow(t)
	m := w.connect(nil, false)
	var run control.Run
	a := m.done(&run, "macros", map[string]any{"action": "run_macro", "name": "slow", "wait": 0})
	if run.State != control.RunGoing || !strings.Contains(a.text, "action get_run, id "+run.ID) {
		t.Errorf("it does not go on: %s", a.text)
	}
	close(gate)
	for run.State == control.RunGoing {
		m.done(&run, "macros", map[string]any{"action": "get_run", "id": run.ID, "wait": 60})
	}
	if run.State != control.RunDone {
		t.Errorf("%+v", run)
	}
}

// TestCallsAtATime has as many calls under way as may be.
func TestCallsAtATime(t *testing.T) {
	w, gate := slow(t)
	m := w.connect(nil, false)
	var run control.Run
	m.done(&run, "macros", map[string]any{"action": "run_macro", "name": "slow", "wait": 0})
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			// Where the one below is among those under way, one of these is not, and asks again.
			for m.ask("macros", map[string]any{"action": "get_run", "id": run.ID, "wait": 60}).err {
			}
		})
	}
	for began := time.Now(); ; {
		if a := m.ask("status", map[string]any{"action": "show"}); a.err && strings.Contains(a.text, control.ReasonRuns) {
			break
		} else if time.Since(began) > patience {
			t.Fatalf("17 calls are under way: %s", a.text)
		}
	}
	close(gate)
	group.Wait()
	m.done(nil, "status", map[string]any{"action": "show"})
}
