package mcp_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/mcp"
)

const aMacro = "name: ping\nsteps: [{request: \"GET {{BASE}}/auth/me HTTP/1.1\", expect: 'resp.code.eq:%d'}]\n"

const aRule = "name: %s\nscope: {pattern: other.example, target: host}\nactions: [set_header: {name: X-Test, value: \"%d\", if_absent: add}]\n"

// TestActionsOfHugin has the tools session and macros have each action that
// Hugin's have.
func TestActionsOfHugin(t *testing.T) {
	s, err := mcp.New(mcp.Config{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range s.Tools() {
		want := map[string]string{
			"session": "tokens status list_macros create_macro get_macro delete_macro execute_macro refresh",
			"macros": "list_macros get_macro create_macro update_macro delete_macro run_macro test_macro list_rules create_rule update_rule delete_rule " +
				"enable_rule disable_rule record_start record_stop record_status record_list",
		}[tool.Name]
		for _, action := range strings.Fields(want) {
			if _, there := tool.Meta["holdfast/actions"].(map[string]string)[action]; !there {
				t.Errorf("%s has no %s", tool.Name, action)
			}
		}
	}
}

// names are those of a page, with what says how they are.
func (m *model) macroNames(tool string) (names []string) {
	m.t.Helper()
	var page control.Page[control.Macro]
	m.done(&page, tool, map[string]any{"action": "list_macros"})
	for _, x := range page.Items {
		names = append(names, x.Name+" "+x.Origin)
	}
	return names
}

// TestChangeMacros creates, changes and deletes macros by both tools.
func TestChangeMacros(t *testing.T) {
	w := newWorld(t, settings{})
	m := w.connect(nil, false)
	same := func(tool string, want ...string) {
		t.Helper()
		if got := m.macroNames(tool); !slices.Equal(got, want) {
			t.Errorf("the macros are %q; want %q", got, want)
		}
	}
	for _, tool := range []string{"macros", "session"} {
		m.done(nil, tool, map[string]any{"action": "create_macro", "text": fmt.Sprintf(aMacro, 200)})
		same(tool, "login file", "ping project")
		if code := m.fails(tool, map[string]any{"action": "create_macro", "text": fmt.Sprintf(aMacro, 200)}); code != control.ReasonConflict {
			t.Errorf("a second one of the name: %s", code)
		}
		var run control.Run
		if m.ask(tool, map[string]any{"action": "delete_macro", "name": "login"}); len(m.macroNames(tool)) != 2 {
			t.Error("a macro that a rule needs is gone")
		}
		m.done(nil, "macros", map[string]any{"action": "update_macro", "name": "ping", "text": fmt.Sprintf(aMacro, 401)})
		m.done(&run, "macros", map[string]any{"action": "test_macro", "name": "ping"})
		if run.State != control.RunDone || !run.Report.OK {
			t.Errorf("the macro is not the new one: %+v", run.Report)
		}
		m.done(nil, tool, map[string]any{"action": "delete_macro", "name": "ping"})
		same(tool, "login file")
	}
	for name, bad := range map[string]map[string]any{
		control.ReasonConfig:    {"text": "name: bad\nsteps: [{request: \"GET {{NOBODY}}/ HTTP/1.1\"}]"},
		control.ReasonParameter: {"text": "name: bad", "flow_ids": []int{1}},
		control.ReasonNotFound:  {"flow_ids": []int{1 << 40}, "name": "other"},
		control.ReasonConflict:  {"flow_ids": []int{1}},
		"identity_unknown":      {"flow_ids": []int{1}, "name": "other", "identity": "nobody"},
	} {
		bad["action"] = "create_macro"
		if code := m.fails("macros", bad); code != name {
			t.Errorf("%v: %s; want %s", bad, code, name)
		}
	}
	if code := m.fails("macros", map[string]any{"action": "create_macro"}); code != control.ReasonParameter {
		t.Errorf("neither text nor flows: %s", code)
	}
}

// TestChangeRules creates, changes, switches and deletes a rule by both tools.
func TestChangeRules(t *testing.T) {
	w := newWorld(t, settings{})
	m := w.connect(nil, false)
	for tool, suffix := range map[string]string{"macros": "_rule", "rules": ""} {
		rules := func(want string) {
			t.Helper()
			var page control.Page[control.Rule]
			m.done(&page, tool, map[string]any{"action": map[string]string{"macros": "list_rules", "rules": "list"}[tool]})
			got := ""
			for _, r := range page.Items {
				got += fmt.Sprintf("%s %t %s;", r.Name, r.Enabled, r.Origin)
			}
			if got != want {
				t.Errorf("%s: the rules are %q; want %q", tool, got, want)
			}
		}
		const before = "shop true file;spare false file;"
		rules(before)
		m.done(nil, tool, map[string]any{"action": "create" + suffix, "text": fmt.Sprintf(aRule, "extra", 1)})
		rules(before + "extra true project;")
		m.done(nil, tool, map[string]any{"action": "disable" + suffix, "name": "extra"})
		rules(before + "extra false project;")
		m.done(nil, tool, map[string]any{"action": "enable" + suffix, "name": "extra"})
		var changed control.Reloaded
		m.done(&changed, tool, map[string]any{"action": "update" + suffix, "name": "extra", "text": fmt.Sprintf(aRule, "extra", 2)})
		if !slices.Equal(changed.Rules.Changed, []string{"extra"}) {
			t.Errorf("%s: update: %+v", tool, changed)
		}
		m.done(nil, tool, map[string]any{"action": "delete" + suffix, "name": "extra"})
		rules(before)
		if code := m.fails(tool, map[string]any{"action": "delete" + suffix, "name": "extra"}); code != control.ReasonNotFound {
			t.Errorf("%s: a rule that is gone: %s", tool, code)
		}
	}
}

// TestRecord records a login, and makes macros of it that are saved.
func TestRecord(t *testing.T) {
	w := newWorld(t, settings{rules: bare})
	m := w.connect(nil, false)
	var r control.Recording
	m.done(&r, "macros", map[string]any{"action": "record_start", "name": "in"})
	if r.State != control.RecordingOn {
		t.Errorf("record_start: %+v", r)
	}
	secrets := []string{password, w.login()}
	m.done(&r, "macros", map[string]any{"action": "record_stop", "name": "in"})
	if r.State != control.RecordingStopped || len(r.Flows) != 2 {
		t.Fatalf("record_stop: %+v", r)
	}
	flows := r.Flows
	m.done(&r, "macros", map[string]any{"action": "record_status", "name": "in"})
	if !slices.Equal(r.Flows, flows) {
		t.Errorf("record_status: %+v", r)
	}
	var list control.Page[control.Recording]
	m.done(&list, "macros", map[string]any{"action": "record_list"})
	if len(list.Items) != 1 || list.Items[0].Name != "in" || list.Items[0].Count != 2 {
		t.Errorf("record_list: %+v", list)
	}
	// A secret is nobody's but the identity's whose it is.
	m.done(nil, "variables", map[string]any{"action": "set", "name": "PASS", "value": "another", "identity": "emily"})
	if code := m.fails("session", map[string]any{"action": "create_macro", "flow_ids": flows, "name": "other"}); code != control.ReasonConflict {
		t.Errorf("credentials of another: %s", code)
	}
	m.done(nil, "variables", map[string]any{"action": "delete", "name": "PASS", "identity": "emily"})
	// An origin has another name where that is taken.
	m.done(nil, "variables", map[string]any{"action": "set", "name": "BASE", "value": "http://other.example", "global": true})
	var run control.Run
	m.done(&run, "macros", map[string]any{"action": "derive_macro", "recording": "in", "name": "proved", "prove": true, "save": true})
	if run.State != control.RunDone || run.Derived == nil || run.Derived.Saved == "" || !strings.Contains(run.Derived.Text, "{{BASE_2}}") {
		t.Fatalf("derive_macro: %+v %+v", run.Error, run.Derived)
	}
	var made control.Created
	m.done(&made, "session", map[string]any{"action": "create_macro", "flow_ids": flows, "name": "made"})
	if made.Derived == nil || !slices.Equal(made.Macros.Added, []string{"made"}) {
		t.Errorf("create_macro: %+v", made)
	}
	for _, name := range []string{"proved", "made"} {
		m.done(&run, "macros", map[string]any{"action": "run_macro", "name": name})
		if run.State != control.RunDone || !run.Report.OK {
			t.Errorf("%s: %+v", name, run.Report)
		}
	}
	m.clean(append(secrets, w.tokens()...))
}

// TestRevealedRuns shows what a run that was begun with reveal brought to a
// get_run with reveal alone.
func TestRevealedRuns(t *testing.T) {
	w := newWorld(t, settings{reveal: true})
	m := w.connect(nil, false)
	w.login()
	var ids []int64
	for _, f := range m.flows(`req.path.cont:"/auth/"`, 2) {
		ids = append(ids, f.ID)
	}
	slices.Sort(ids)
	for name, c := range map[string]struct {
		tool   string
		call   map[string]any
		hidden func(*control.Run) bool
	}{
		"a report":        {"macros", map[string]any{"action": "test_macro", "name": "login"}, func(r *control.Run) bool { return r.Report != nil }},
		"a macro":         {"macros", map[string]any{"action": "derive_macro", "flows": ids}, func(r *control.Run) bool { return r.Derived == nil }},
		"a configuration": {"learn", map[string]any{"action": "run", "flows": ids, "rate": 1000}, func(r *control.Run) bool { return r.Learnt == nil }},
	} {
		c.call["reveal"] = true
		var run, again control.Run
		begun := m.ask(c.tool, c.call)
		if !strings.Contains(begun.text, password) {
			t.Errorf("%s: nothing is revealed: %s", name, begun.text)
		}
		m.decode(begun, &run)
		if a := m.ask("macros", map[string]any{"action": "get_run", "id": run.ID}); strings.Contains(a.text, password) || strings.Contains(a.text, "eyJ") {
			t.Errorf("%s: shown to one who did not ask: %s", name, a.text)
		} else if m.decode(a, &again); again.ID != run.ID || !c.hidden(&again) {
			t.Errorf("%s: %+v", name, again)
		}
		for _, more := range []map[string]any{{"action": "list_runs"}, {"action": "cancel_run", "id": run.ID}} {
			if a := m.ask("macros", more); strings.Contains(a.text, password) || strings.Contains(a.text, "eyJ") {
				t.Errorf("%s: %v shows it: %s", name, more, a.text)
			}
		}
		if a := m.ask("macros", map[string]any{"action": "get_run", "id": run.ID, "reveal": true}); !strings.Contains(a.text, password) {
			t.Errorf("%s: not revealed to one who asked: %s", name, a.text)
		}
	}
}

// decode reads what a call brought.
func (m *model) decode(a *answer, result any) {
	m.t.Helper()
	if err := json.Unmarshal([]byte(a.first), result); err != nil {
		m.t.Fatalf("%v in %s", err, a.first)
	}
}
