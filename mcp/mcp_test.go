package mcp_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/mcp"
)

// TestTools holds the tools against a file: what models are told.
func TestTools(t *testing.T) {
	s, err := mcp.New(mcp.Config{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	to.SetIndent("", "  ")
	for _, tool := range s.Tools() {
		if err := to.Encode(tool); err != nil {
			t.Fatal(err)
		}
		if len(tool.Description) > 4000 {
			t.Errorf("%s: the description has %d bytes", tool.Name, len(tool.Description))
		}
	}
	const golden = "testdata/tools.json"
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("the tools are not those of %s (%v); if that is meant, run the test with -update", golden, err)
	}
}

// TestReadOnly has no tool that changes something.
func TestReadOnly(t *testing.T) {
	s, err := mcp.New(mcp.Config{Version: "test", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	danger := map[string]control.Danger{}
	for _, op := range control.Operations() {
		for _, a := range op.Actions() {
			danger[a.Tool+"."+a.Name] = op.Danger
		}
	}
	for _, tool := range s.Tools() {
		for action := range tool.Meta["holdfast/actions"].(map[string]string) {
			if danger[tool.Name+"."+action] != control.Read {
				t.Errorf("%s %s is offered", tool.Name, action)
			}
		}
		if !tool.Annotations.ReadOnlyHint {
			t.Errorf("%s is not marked as reading alone", tool.Name)
		}
	}
}

// TestSession does each action of the tool session, as Hugin has them.
func TestSession(t *testing.T) {
	w := newWorld(t, settings{})
	for name, older := range map[string]bool{"without sessions": false, "with sessions": true} {
		t.Run(name, func(t *testing.T) {
			m := w.connect(nil, older)
			m.t = t
			if version := m.InitializeResult().ProtocolVersion; (version < "2026-07-28") != older {
				t.Errorf("the revision is %s", version)
			}
			var run control.Run
			m.done(&run, "session", map[string]any{"action": "refresh"})
			if run.State != control.RunDone || len(run.Sessions) != 1 || run.Sessions[0].State != "alive" {
				t.Errorf("refresh: %+v", run)
			}
			var sessions control.Page[control.Session]
			m.done(&sessions, "session", map[string]any{"action": "status"})
			if len(sessions.Items) != 1 || sessions.Items[0].State != "alive" {
				t.Errorf("status: %+v", sessions)
			}
			var tokens control.Page[control.Secret]
			m.done(&tokens, "session", map[string]any{"action": "tokens"})
			if len(tokens.Items) != 1 || tokens.Items[0].Name != "ACCESS" || tokens.Items[0].Value != nil || tokens.Items[0].Bytes == 0 {
				t.Errorf("tokens: %+v", tokens)
			}
			var macros control.Page[control.Macro]
			m.done(&macros, "session", map[string]any{"action": "list_macros"})
			if len(macros.Items) != 1 || macros.Items[0].Name != "login" {
				t.Errorf("list_macros: %+v", macros)
			}
			var one control.Macro
			m.done(&one, "session", map[string]any{"action": "get_macro", "name": "login"})
			if len(one.Steps) != 1 || one.Steps[0].Request != "" {
				t.Errorf("get_macro: %+v", one)
			}
			m.done(&run, "session", map[string]any{"action": "execute_macro", "name": "login"})
			if run.State != control.RunDone || run.Report == nil || run.Report.Values["ACCESS"] != "***" {
				t.Errorf("execute_macro: %+v", run)
			}
			if code := m.fails("session", map[string]any{"action": "tokens", "reveal": true}); code != control.ReasonHidden {
				t.Errorf("tokens revealed: %s", code)
			}
			if text := m.tape.text(); strings.Contains(text, password) || strings.Contains(text, "eyJ") {
				t.Errorf("a secret passed: %s", text)
			}
		})
	}
}
