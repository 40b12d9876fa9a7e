package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// recordingWorld is one whose flows go to a project.
func recordingWorld(t *testing.T, reveal bool) *world {
	s := storetest.File(t).Open(t, store.Options{})
	return newWorld(t, settings{store: s, reveal: reveal, config: func(c *holdfast.Config, _ *api.Server) { c.Store, c.History = s, holdfast.HistoryFull }})
}

func (w *world) post(path, body string) int {
	w.t.Helper()
	resp, err := w.through.Post(w.origin.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

func TestRecordings(t *testing.T) {
	w := recordingWorld(t, false)
	var all, some, texts control.Recording
	w.call("record.start", nil, &all)
	w.call("record.start", map[string]any{"name": "some", "query": `req.path.cont:"/echo" and req.body.cont:"alpha"`}, &some)
	w.call("record.start", map[string]any{"name": "none", "host": "other.example"}, nil)
	if all.Name != "recording-1" || all.State != control.RecordingOn || some.Name != "some" {
		t.Errorf("%+v; %+v", all, some)
	}
	if code := w.refused("record.start", map[string]any{"name": "some"}); code != control.ReasonRecordings {
		t.Errorf("the same name: %s", code)
	}
	for _, bad := range []map[string]any{{"identity": "zoe"}, {"host": "a b"}, {"query": "resp.code.eq:x"}, {"name": "a/b"}} {
		w.refused("record.start", bad)
	}
	w.post("/echo", "alpha")
	w.post("/echo", "beta")
	w.me()
	w.call("record.stop", map[string]any{"name": "some"}, &texts)
	w.call("record.stop", map[string]any{"name": "recording-1"}, &all)
	if len(all.Flows) != 3 || all.State != control.RecordingStopped || len(texts.Flows) != 1 || texts.Flows[0] != all.Flows[0] {
		t.Errorf("%+v; %+v", all, texts)
	}
	w.post("/echo", "late")
	w.call("record.status", map[string]any{"name": "recording-1"}, &all)
	if all.Count != 3 {
		t.Errorf("what came after its end is in it: %+v", all)
	}
	w.call("record.status", map[string]any{"name": "-"}, &some)
	if some.Name != "none" || some.Count != 0 || some.State != control.RecordingOn {
		t.Errorf("the last one: %+v", some)
	}
	var page control.Page[control.Recording]
	w.call("record.list", nil, &page)
	if len(page.Items) != 3 || page.Items[0].Count != 3 || page.Items[0].Flows != nil {
		t.Errorf("%+v", page)
	}
	w.call("record.start", map[string]any{"name": "some"}, &some)
	if some.Count != 0 {
		t.Errorf("a name is used again: %+v", some)
	}
	if code := w.refused("record.status", map[string]any{"name": "nothing"}); code != control.ReasonNotFound {
		t.Errorf("an unknown name: %s", code)
	}
}

func TestRecordingNeedsHistory(t *testing.T) {
	if code := newWorld(t, settings{}).refused("record.start", nil); code != control.ReasonNoHistory {
		t.Errorf("no project: %s", code)
	}
	if code := newWorld(t, settings{store: keptFlow(t)}).refused("record.start", nil); code != control.ReasonRecordings {
		t.Errorf("no history: %s", code)
	}
}

// login logs in as a client of the proxy does, with a key of its own, and uses
// the token.
func (w *world) login() {
	w.t.Helper()
	req, err := http.NewRequest("POST", w.origin.URL+"/auth/login", strings.NewReader(`{"username":"emilys","password":"emilyspass"}`))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Device-Token", "open sesame")
	var got struct{ AccessToken string }
	if a := w.do(w.through, req); json.Unmarshal([]byte(a.body), &got) != nil || got.AccessToken == "" {
		w.t.Fatalf("no login: %+v", a)
	}
	for range 2 {
		req, err := http.NewRequest("GET", w.origin.URL+"/auth/me", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+got.AccessToken)
		if a := w.do(w.through, req); a.status != 200 {
			w.t.Fatalf("the token is not taken: %+v", a)
		}
	}
}

// What passes while a recording goes on becomes a macro, which is proved by
// running it; nothing secret stands in what is answered.
func TestDeriveRecording(t *testing.T) {
	w := recordingWorld(t, false)
	var r control.Recording
	w.call("record.start", map[string]any{"name": "login"}, &r)
	w.login()
	w.call("record.stop", map[string]any{"name": "login"}, &r)
	if len(r.Flows) != 3 {
		t.Fatalf("%+v", r)
	}
	var run control.Run
	w.call("macro.derive", map[string]any{"recording": "login", "name": "in", "prove": true}, &run)
	w.over(&run)
	d := run.Derived
	if run.State != control.RunDone || d == nil || d.Report.Proved == nil || !*d.Report.Proved || d.Identity != "emilys" || run.Requests < 2 {
		t.Fatalf("%+v; %+v; %+v", run, run.Error, d)
	}
	for _, want := range []string{"name: in", `"password":"{{PASS}}"`, "${env:EMILYS_PASS}", "${env:EMILYS_RECORDED_DEVICE_TOKEN}", "{{RECORDED_DEVICE_TOKEN}}"} {
		if !strings.Contains(d.Text, want) {
			t.Errorf("the text lacks %s:\n%s", want, d.Text)
		}
	}
	raw, err := json.Marshal(run)
	if err != nil || strings.Contains(string(raw), "emilyspass") || strings.Contains(string(raw), "eyJ") || strings.Contains(string(raw), "sesame") {
		t.Errorf("a secret is shown: %s (%v)", raw, err)
	}
	if strings.Join(d.Env, " ") != "EMILYS_PASS EMILYS_RECORDED_DEVICE_TOKEN" || len(d.Flows) != 3 || d.Flows[0] != r.Flows[0] {
		t.Errorf("%+v", d)
	}
	for name, bad := range map[string]map[string]any{
		control.ReasonHidden:    {"recording": "login", "reveal": true},
		control.ReasonParameter: {"recording": "login", "query": "()"},
		control.ReasonNotFound:  {"flows": []int{1 << 40}},
		control.ReasonQuery:     {"query": "resp.code.eq:x"},
	} {
		if code := w.refused("macro.derive", bad); code != name {
			t.Errorf("%v: %s", bad, code)
		}
	}
	w.call("macro.derive", map[string]any{"flows": r.Flows[1:]}, &run)
	if w.over(&run); run.State == control.RunDone && strings.Contains(run.Derived.Text, "eyJ") {
		t.Errorf("a token of the recording stands in the text:\n%s", run.Derived.Text)
	}
}

func TestDeriveRevealed(t *testing.T) {
	w := recordingWorld(t, true)
	var run control.Run
	var r control.Recording
	w.call("record.start", nil, &r)
	w.login()
	w.call("record.stop", map[string]any{"name": "-"}, &r)
	w.call("macro.derive", map[string]any{"flows": r.Flows, "reveal": true, "values": map[string]string{"PASS": "emilyspass"}}, &run)
	if w.over(&run); run.Derived != nil {
		t.Errorf("secrets are shown to one who did not ask for them: %+v", run.Derived)
	}
	w.call("run.get", map[string]any{"id": run.ID, "reveal": true}, &run)
	if run.State != control.RunDone || run.Derived == nil || !strings.Contains(run.Derived.Text, "emilyspass") || len(run.Derived.Env) != 0 {
		t.Errorf("%+v %+v", run.Error, run.Derived)
	}
}

// The history is enough to learn a configuration of, and Holdfast examines its
// own.
func TestLearnFlows(t *testing.T) {
	w := recordingWorld(t, false)
	var r control.Recording
	w.call("record.start", nil, &r)
	w.login()
	w.call("record.stop", map[string]any{"name": "-"}, &r)
	var run control.Run
	w.call("learn", map[string]any{"query": `req.path.cont:"/auth/"`, "rate": 1000}, &run)
	if w.over(&run); run.State != control.RunDone || run.Learnt == nil || !run.Learnt.Report.Held || run.Requests < 5 || len(run.Progress) < 2 {
		t.Fatalf("%+v %+v %+v", run, run.Error, run.Learnt)
	}
	if text := run.Learnt.Text; !strings.Contains(text, "${env:EMILYS_PASS}") || strings.Contains(text, "emilyspass") || strings.Contains(text, "eyJ") || !strings.Contains(text, "reauth_macro") {
		t.Errorf("it is no configuration without secrets:\n%s", text)
	}
	// The rule does not know that this origin answers a broken token with 500.
	run = control.Run{}
	w.call("doctor", map[string]any{"rule": "shop", "identity": "emily", "url": w.origin.URL + "/auth/me", "rate": 1000}, &run)
	if w.over(&run); run.State != control.RunFailed || run.Error.Code != control.ReasonDoctor || run.Examined == nil || run.Examined.Held || len(run.Examined.Claims) < 4 || !run.Examined.Claims[0].Proved {
		t.Errorf("%+v %+v %+v", run, run.Error, run.Examined)
	}
	w.call("doctor", map[string]any{"rule": "nothing"}, &run)
	if w.over(&run); run.State != control.RunFailed || run.Error.Code != control.ReasonDoctor {
		t.Errorf("%+v", run)
	}
	if code := w.refused("learn", map[string]any{"query": `req.path.cont:"/nowhere"`}); code != control.ReasonNotFound {
		t.Errorf("no flows: %s", code)
	}
}
