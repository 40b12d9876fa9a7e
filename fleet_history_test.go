package holdfast_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
	"github.com/holdfast-proxy/holdfast/wire"
)

// behindRelay is a schema of its own, whose way to the server can be cut.
func behindRelay(t *testing.T) (way *relay, dsn string) {
	t.Helper()
	u, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	way = newRelay(t, u.Host)
	u.Host = way.ln.Addr().String()
	u.RawQuery += "&sslmode=disable"
	return way, u.String()
}

// What waits for a database that is away is bounded. What is left out is counted
// and said, and everything else is there when it is back, once.
func TestTheHistoryOfADatabaseThatComesAndGoes(t *testing.T) {
	way, dsn := behindRelay(t)
	var mu sync.Mutex
	var told []string
	s := storetest.Project{DSN: dsn}.Open(t, store.Options{Warn: func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf(format, args...))
	}})
	const queue, flows = 64, 1000
	h, err := s.StartHistory(store.HistoryOptions{QueueFlows: queue, Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	ids := new(flow.IDs)
	for i := range flows {
		switch i {
		case flows / 4, flows * 3 / 4:
			way.set(true)
		case flows / 2:
			way.set(false) // and what is under way breaks off at any point
			if err := h.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		req, err := wire.ParseRequest([]byte(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		f := &flow.Flow{ID: ids.Next(now), Tool: "test", Start: now, Ended: now, Received: req, Request: req, Origin: flow.Origin{Host: "x", Port: 80}}
		h.Record(&store.Exchange{Flow: f}, 0)
	}
	way.set(false)
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := h.Stats()
	if st.Written+st.Dropped != flows || st.Dropped == 0 || st.Waiting != 0 || st.Failing != "" {
		t.Errorf("%+v", st)
	}
	all, err := s.Flows(t.Context(), 0, 2*flows, false)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[flow.ID]bool)
	for _, one := range all {
		if seen[one.Flow.ID] {
			t.Errorf("%s is there twice", one.Flow.ID)
		}
		seen[one.Flow.ID] = true
	}
	if uint64(len(seen)) != st.Written {
		t.Errorf("%d flows of %d", len(seen), st.Written)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, part := range []string{"the history cannot be written: ", "the history cannot follow: flows are left out, and counted", "the history is written again; "} {
		if !strings.Contains(strings.Join(told, "\n"), part) {
			t.Errorf("nobody said %q: %q", part, told)
		}
	}
}

// Nodes keep serving without their database, and what they served is in the
// history when it is back, with the name of the node.
func TestAFleetsHistory(t *testing.T) {
	origin, err := testenv.Origin{}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	way, dsn := behindRelay(t)
	var fleet []*world
	for n := range 2 {
		w := &world{t: t, origin: origin, home: t.TempDir(), project: storetest.Project{DSN: dsn}.Open(t, store.Options{})}
		w.more = func(c *holdfast.Config) { c.History = holdfast.HistoryFull }
		w.start(ofNode(fleetRules, n))
		fleet = append(fleet, w)
	}
	const each = 10
	all(t, fleet, each)
	way.set(true)
	all(t, fleet, each)
	way.set(false)
	all(t, fleet, each)
	for _, w := range fleet {
		w.stop() // which writes what waits
		if st, ok := w.h.History(); !ok || st.Dropped > 0 || st.Waiting > 0 {
			t.Errorf("%+v", st)
		}
	}
	s := fleet[0].project
	nodes := make(map[string]int)
	stored, err := s.Flows(t.Context(), 0, 1000, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range stored {
		if one.Flow.Tool == flow.ToolProxy {
			nodes[one.Node]++
		}
	}
	if len(nodes) != len(fleet) {
		t.Errorf("%v", nodes)
	}
	for node, n := range nodes {
		query, err := httpql.Parse(fmt.Sprintf("flow.node.eq:%q and flow.tool.eq:%q", node, flow.ToolProxy))
		if err != nil {
			t.Fatal(err)
		}
		found, err := s.Search(t.Context(), store.Search{Query: query, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if n != 3*each || len(found.Flows) != n {
			t.Errorf("%d flows of %s, %d found; want %d", n, node, len(found.Flows), 3*each)
		}
	}
}
