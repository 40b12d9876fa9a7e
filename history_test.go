package holdfast_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// keptWorld is a world whose flows go to a project.
func keptWorld(t *testing.T, o testenv.Origin, rules, mode string) (*world, *store.Store) {
	t.Helper()
	origin, err := o.Start()
	if err != nil {
		t.Fatal(err)
	}
	s := storetest.File(t).Open(t, store.Options{})
	w := &world{t: t, origin: origin, home: t.TempDir(), more: func(c *holdfast.Config) { c.Store, c.History = s, mode }}
	t.Cleanup(origin.Close)
	w.start(rules)
	return w, s
}

func kept(t *testing.T, s *store.Store) []*store.Stored {
	t.Helper()
	all, err := s.Flows(t.Context(), 0, 100, false)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHistory(t *testing.T) {
	for name, o := range map[string]testenv.Origin{"HTTP1": {TLS: true, Gzip: true}, "HTTP2": {TLS: true, HTTP2: true, Gzip: true}} {
		t.Run(name, func(t *testing.T) {
			w, s := keptWorld(t, o, "rules: []\nhistory: {max_body: 100KiB}\n", "")
			if o.HTTP2 {
				w.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
			}
			req, err := http.NewRequest("POST", w.origin.URL+"/echo?a=b", io.MultiReader(strings.NewReader("one "), strings.NewReader("two"))) // no length: chunks, or a stream
			if err != nil {
				t.Fatal(err)
			}
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if w.get("/big?size=300000&chunked=1"); t.Failed() {
				return
			}
			w.stop() // all have ended then, and are written
			all := kept(t, s)
			if len(all) != 2 {
				t.Fatalf("%d flows", len(all))
			}
			x := all[0]
			record := x.Record()
			if string(x.Flow.Request.Method()) != "POST" || string(record.RequestBody) != "one two" || !bytes.Equal(record.ResponseBody, answer) || x.Received.Broken || x.Response.Broken {
				t.Errorf("%s %q → %q", x.Flow.Request.Bytes(), record.RequestBody, record.ResponseBody)
			}
			if x.Flow.Tool != flow.ToolProxy || x.Flow.Start.IsZero() || x.Flow.Ended.Before(x.Flow.Start) || x.Flow.Response.Status() != 200 {
				t.Errorf("%+v", x.Flow)
			}
			if y := all[1].Response; !y.Cut || len(y.Raw) != 100<<10 || y.Size < 300_000 || y.Broken {
				t.Errorf("a body of 300 kB: %d bytes kept of %d, cut %v", len(y.Raw), y.Size, y.Cut)
			}
		})
	}
}

func TestHistoryOfHeads(t *testing.T) {
	w, s := keptWorld(t, testenv.Origin{}, "rules: []\n", holdfast.HistoryHeads)
	w.get("/big?size=3000")
	w.stop()
	all := kept(t, s)
	if len(all) != 1 || all[0].Flow.Response == nil || len(all[0].Response.Raw) > 0 || !all[0].Response.Cut || all[0].Response.Size != 3000 {
		t.Errorf("%d flows: %+v", len(all), all)
	}
}

// The history has what the rules made of a request, its session, and the
// requests that Holdfast sent itself.
func TestHistoryOfASession(t *testing.T) {
	w, s := keptWorld(t, testenv.Origin{TLS: true}, seedRules, holdfast.HistoryFull)
	for range 2 {
		w.get("/api/items")
		w.origin.KillAll()
	}
	w.stop()
	own, resent := 0, 0
	for _, x := range kept(t, s) {
		if x.Flow.Tool == flow.ToolMacro {
			own++
			continue
		}
		if len(x.Flow.Earlier) > 0 {
			resent++
		}
		if x.State != "alive" || len(x.Rules) != 1 || x.Flow.Request == x.Flow.Received || !x.Flow.Request.Has("Authorization") || x.Flow.Received.Has("Authorization") {
			t.Errorf("%d: %s %v\n%s", x.ID, x.State, x.Rules, x.Flow.Request.Bytes())
		}
	}
	if own == 0 || resent == 0 {
		t.Errorf("%d requests of our own, %d sent again", own, resent)
	}
}

// What is not in the history at the end is said.
func TestFlowsThatAreLostAtTheEndAreTold(t *testing.T) {
	var mu sync.Mutex
	var told []string
	origin, err := testenv.Origin{}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	s := storetest.File(t).Open(t, store.Options{})
	w := &world{t: t, origin: origin, home: t.TempDir(), more: func(c *holdfast.Config) {
		c.Store, c.Warn = s, func(text string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, text)
		}
	}}
	w.start("rules: []\n")
	w.get("/echo")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	w.get("/echo")
	w.stop()
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 1 || !strings.HasPrefix(told[0], "1 flows are not in the history") {
		t.Errorf("%q", told)
	}
}
