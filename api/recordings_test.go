package api_test

import (
	"io"
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
