package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/httpql/httpqltest"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
	"github.com/holdfast-proxy/holdfast/wire"
)

// TestSearchPassesTheScripts runs the scripts that the evaluator in memory has
// to pass, on both kinds of projects.
func TestSearchPassesTheScripts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		node := ""
		h := history(t, s, store.HistoryOptions{})
		ids := make(map[*httpqltest.Exchange]int64)
		httpqltest.Run(t, os.DirFS("../httpql/testdata"), true, func(xs []*httpqltest.Exchange, q *httpql.Query) ([]httpql.Truth, error) {
			for _, x := range xs {
				if ids[x] != 0 {
					continue
				}
				if x.Node != node { // as another node of the fleet
					if err := h.Close(); err != nil {
						t.Fatal(err)
					}
					node, h = x.Node, history(t, s, store.HistoryOptions{Node: x.Node})
				}
				h.Record(asExchange(t, x), 0)
				flush(t, h)
				all, err := s.Flows(t.Context(), 0, 1, true)
				if err != nil || len(all) != 1 {
					t.Fatalf("%s was not written: %v", x.ID, err)
				}
				ids[x] = all[0].ID
			}
			page, err := s.Search(t.Context(), store.Search{Query: q, Limit: store.MaxLimit, Within: limit})
			if err != nil {
				return nil, err
			}
			answers := make([]httpql.Truth, len(xs))
			for i, x := range xs {
				if slices.ContainsFunc(page.Flows, func(f *store.Stored) bool { return f.ID == ids[x] }) {
					answers[i] = httpql.True
				}
			}
			return answers, nil
		})
	})
}

// asExchange makes of a script's exchange one that the history takes.
func asExchange(t *testing.T, x *httpqltest.Exchange) *store.Exchange {
	f := &flow.Flow{Tool: x.Tool, Identity: x.Identity, Origin: flow.Origin{TLS: x.TLS, Host: "origin.example", Port: uint16(x.Port)},
		Start: x.Created, Sent: x.Created, Stamp: flow.Stamp{Generation: uint64(x.Generation)}}
	kept := &store.Exchange{Flow: f, State: x.State}
	f.Received = parsed(t, wire.ParseRequest, string(x.Request))
	f.Request = f.Received
	kept.Received = body(string(x.RequestBody), wire.Length)
	if x.Response != nil {
		f.Answered = x.Created.Add(x.Roundtrip)
		f.Response = parsed(t, wire.ParseResponse, string(x.Response))
		kept.Response = body(string(x.ResponseBody), wire.Length)
	}
	for i := range max(len(x.Rules), len(x.Actions)) {
		f.Trace.Add(flow.Event{Actor: "rule " + x.Rules[i], Action: x.Actions[i]})
	}
	f.End(x.Created.Add(x.Duration), nil)
	return kept
}

func TestSearchStopsInTimeAndGoesOn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		g := gen{rand.New(rand.NewPCG(7, 7))}
		flows := make([]*store.Exchange, 40)
		for i := range flows {
			flows[i] = g.exchange(i)
		}
		s := keep(t, p, flows, 5)
		for _, text := range []string{"", `req.raw.cont:"HTTP"`, `req.raw.cont:"nowhere to be found"`} {
			q, err := httpql.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, oldest := range []bool{false, true} {
				var ids []int64
				o := store.Search{Query: q, Within: 1, OldestFirst: oldest} // a nanosecond
				for rounds := 0; ; rounds++ {
					page, err := s.store.Search(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range page.Flows {
						ids = append(ids, f.ID)
					}
					if page.Next == 0 {
						if page.Incomplete {
							t.Errorf("%q: incomplete, and nowhere to go on", text)
						}
						break
					}
					if rounds > 100 {
						t.Fatalf("%q: no progress", text)
					}
					o.After, o.Before = 0, page.Next
					if oldest {
						o.After, o.Before = page.Next, 0
					}
				}
				if slices.Sort(ids); !slices.Equal(ids, s.memory(q)) {
					t.Errorf("%q: %d, want %d", text, ids, s.memory(q))
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.store.Search(ctx, store.Search{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a search that was cancelled: %v", err)
		}
	})
}

func TestSignaturesLeaveOutBlocks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		var flows []*store.Exchange
		for i := range 40 {
			answer := strings.Repeat("x", 100)
			if i == 17 {
				answer = strings.Repeat("y", 6000) + "a Needle in the stack" // which stands elsewhere
			}
			x := plain(t, "/page", answer)
			x.Flow.ID[0] = byte(i)
			flows = append(flows, x)
		}
		s := keep(t, p, flows, 5)
		for text, rows := range map[string]int64{`resp.raw.cont:"needle in"`: 5, `resp.raw.cont:"no such needle"`: 0, `req.created_at.gt:"2200-01-01"`: 0, `resp.code.eq:404`: 0} {
			q, err := httpql.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			page, err := s.store.Search(t.Context(), store.Search{Query: q, Within: limit})
			if err != nil {
				t.Fatal(err)
			}
			if page.Rows != rows || page.Next != 0 || page.Incomplete || len(page.Flows) > 0 != (rows > 0) {
				t.Errorf("%s looks into %d flows, not %d, and finds %d", text, page.Rows, rows, len(page.Flows))
			}
			if rows > 0 && string(page.Flows[0].Response.Raw) != string(flows[17].Response.Raw) {
				t.Errorf("%s finds %q…", text, page.Flows[0].Response.Raw[:20])
			}
		}
		if page, err := s.store.Search(t.Context(), store.Search{Limit: 3}); err != nil || len(page.Flows) != 3 || page.Next != page.Flows[2].ID || page.Flows[0].ID != s.ids[39] {
			t.Errorf("the newest three: %+v, %v", page, err)
		}

		// Without signatures, and with a flow that cannot be read.
		store.Exec(t, s.store, "UPDATE blocks SET request = NULL, response = NULL")
		store.Exec(t, s.store, "UPDATE flows SET pack = NULL, content = ? WHERE id = ?", []byte("no content"), s.ids[3])
		q, err := httpql.Parse(`resp.raw.cont:"needle in"`)
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.store.Search(t.Context(), store.Search{Query: q, Within: limit})
		if err != nil || page.Rows != 40 || page.Damaged != 1 || len(page.Flows) != 1 {
			t.Errorf("without signatures: %+v, %v", page, err)
		}
	})
}
