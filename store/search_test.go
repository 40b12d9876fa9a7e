package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// stored is a project with flows, and what they were before.
type stored struct {
	store *store.Store
	ids   []int64
	live  map[int64]*store.Exchange
}

// keep writes flows, some to each of several blocks.
func keep(t testing.TB, p storetest.Project, flows []*store.Exchange, perBlock int) *stored {
	t.Helper()
	s := &stored{store: p.Open(t, store.Options{}), live: make(map[int64]*store.Exchange)}
	for some := range slices.Chunk(flows, perBlock) {
		h := history(t, s.store, store.HistoryOptions{}) // begins a block
		for _, x := range some {
			h.Record(x, 0)
		}
		flush(t, h) // which waits longer than Close
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.store.Flows(t.Context(), 0, len(flows)+1, false)
	if err != nil || len(all) != len(flows) {
		t.Fatalf("%d of %d flows were kept (%v)", len(all), len(flows), err)
	}
	for i, f := range all {
		s.ids = append(s.ids, f.ID)
		s.live[f.ID] = flows[i]
		if f.Flow.ID != flows[i].Flow.ID {
			t.Fatalf("flow %d is not the one that was written as such", i)
		}
	}
	return s
}

// memory is what the definition says, oldest first.
func (s *stored) memory(q *httpql.Query) (ids []int64) {
	for _, id := range s.ids {
		if q.Match(s.live[id].Live(id)) == httpql.True {
			ids = append(ids, id)
		}
	}
	return ids
}

// search is what the project says, page by page, oldest first.
func (s *stored) search(t testing.TB, o store.Search) (ids []int64) {
	t.Helper()
	for {
		o.Within = limit
		page, err := s.store.Search(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", o.Query, err)
		}
		for _, f := range page.Flows {
			ids = append(ids, f.ID)
		}
		if page.Next == 0 {
			break
		}
		if page.Incomplete || len(page.Flows) != o.Limit {
			t.Fatalf("%s: a page of %d flows of %d, incomplete %v", o.Query, len(page.Flows), o.Limit, page.Incomplete)
		}
		if o.OldestFirst {
			o.After = page.Next
		} else {
			o.Before = page.Next
		}
	}
	if !o.OldestFirst {
		slices.Reverse(ids)
	}
	return ids
}

// number is one that the environment may set.
func number(t testing.TB, name string, otherwise int) int {
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	return otherwise
}

// TestSearchAgreesWithMemory asks random queries about random flows of both
// kinds of projects. HOLDFAST_QUERIES is how many, HOLDFAST_SEED where to begin.
func TestSearchAgreesWithMemory(t *testing.T) {
	const perSet = 5000
	queries, seed := number(t, "HOLDFAST_QUERIES", 120), number(t, "HOLDFAST_SEED", 1)
	for set := 0; queries > 0; set++ {
		n := min(queries, perSet)
		queries -= n
		t.Run(fmt.Sprint("seed", seed+set), func(t *testing.T) { agree(t, gen{rand.New(rand.NewPCG(uint64(seed+set), 0))}, n) })
	}
}

func agree(t *testing.T, g gen, queries int) {
	flows := make([]*store.Exchange, 48)
	for i := range flows {
		flows[i] = g.exchange(i)
	}
	var projects []*stored
	for _, p := range []storetest.Project{storetest.File(t), {DSN: storetest.Postgres(t)}} {
		projects = append(projects, keep(t, p, flows, 4))
	}
	found := 0
	for range queries {
		a := g.query(flows, 3)
		page, oldest := pick(g, 1000, 1000, 7), g.one(3)
		for _, s := range projects {
			fails := func(a *asked) bool {
				q := a.query()
				return !slices.Equal(s.search(t, store.Search{Query: q, Limit: page, OldestFirst: oldest}), s.memory(q))
			}
			if !fails(a) {
				continue
			}
			q := a.smaller(fails).query()
			got, want := s.search(t, store.Search{Query: q, Limit: page, OldestFirst: oldest}), s.memory(q)
			t.Errorf("%s\nin %T finds %d\nin memory  %d", q, s.store, got, want)
			for _, id := range s.ids {
				if slices.Contains(got, id) != slices.Contains(want, id) {
					x := s.live[id]
					t.Fatalf("flow %d: %+v\n%q\nbody %+v %+v\n%q\nbody %+v", id, x.Flow, x.Flow.Request.Bytes(), x.Received, x.Sent, answerOf(x), x.Response)
				}
			}
			t.FailNow()
		}
		found += len(projects[0].memory(a.query()))
	}
	if found == 0 || found == queries*len(flows) {
		t.Errorf("all queries are true of %d flows together: they ask nothing", found)
	}
}

func answerOf(x *store.Exchange) []byte {
	if x.Flow.Response == nil {
		return nil
	}
	return x.Flow.Response.Bytes()
}
