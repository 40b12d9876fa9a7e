package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// A project of each earlier version is brought up to date; its flows are read,
// found and deleted beside new ones.
func TestOldProjects(t *testing.T) {
	for _, version := range store.OldVersions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, p storetest.Project) {
				old := []*store.Exchange{plain(t, "/old-1", "needle"), rich(t), plain(t, "/old-2", strings.Repeat("large needle ", 1000))}
				ids := store.MakeOld(t, p.DSN, version, old)
				s := p.Open(t, store.Options{})
				for i, id := range ids {
					one, err := s.Flow(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					same(t, one, old[i])
				}
				h := history(t, s, store.HistoryOptions{})
				h.Record(plain(t, "/new", "needle"), 0)
				flush(t, h)
				query, err := httpql.Parse(`resp.raw.cont:"needle"`)
				if err != nil {
					t.Fatal(err)
				}
				want := 1
				if len(ids) > 0 {
					want = 3
				}
				page, err := s.Search(t.Context(), store.Search{Query: query, Within: limit})
				if err != nil || len(page.Flows) != want || page.Damaged != 0 {
					t.Fatalf("%d of %d are found, %v", len(page.Flows), want, err)
				}
				if n, err := s.Delete(t.Context(), append(ids, page.Flows[0].ID)...); n != len(ids)+1 || err != nil {
					t.Errorf("%d deleted, %v", n, err)
				}
				if n := store.Count(t, s, "flows") + store.Count(t, s, "packs") + store.Count(t, s, "blocks") + store.Count(t, s, "bodies"); n != 0 {
					t.Errorf("%d rows are left", n)
				}
			})
		})
	}
}

// A flow that is deleted is taken out of its pack, and the others stay.
func TestDeletingTakesOutOfPacks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		h := history(t, s, store.HistoryOptions{})
		goOn := store.Halt(t, s) // so that they are one group
		for i := range 100 {
			h.Record(plain(t, fmt.Sprintf("/page-%d", i), fmt.Sprintf("answer %d", i)), 0)
		}
		goOn()
		flush(t, h)
		all, err := s.Flows(t.Context(), 0, 100, false)
		if err != nil || len(all) != 100 {
			t.Fatal(len(all), err)
		}
		if n := store.Count(t, s, "packs"); n > 10 {
			t.Errorf("%d packs", n)
		}
		var gone []int64
		for i := 1; i < 100; i += 2 {
			gone = append(gone, all[i].ID)
		}
		if n, err := s.Delete(t.Context(), gone...); n != 50 || err != nil {
			t.Fatal(n, err)
		}
		left := store.Packs(t, s)
		for i, f := range all {
			content, is := left[f.ID]
			if is != (i%2 == 0) || is && !strings.Contains(content, fmt.Sprintf("answer %d", i)) {
				t.Errorf("%d: %v %q", i, is, content)
			}
		}
		again, err := s.Flows(t.Context(), 0, 100, false)
		if err != nil || len(again) != 50 {
			t.Fatal(len(again), err)
		}
		for i, f := range again {
			if f.ID != all[2*i].ID || string(f.Response.Raw) != fmt.Sprintf("answer %d", 2*i) {
				t.Errorf("%d: %q", i, f.Response.Raw)
			}
		}
		if page, err := s.Search(t.Context(), store.Search{Within: limit}); err != nil || len(page.Flows) != 50 || page.Damaged != 0 {
			t.Errorf("%d are found, %v", len(page.Flows), err)
		}
	})
}

func TestACommitIsMadeAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		given := []*store.Exchange{plain(t, "/a", "one"), rich(t), plain(t, "/b", strings.Repeat("large ", 1000))}
		store.CommitTwice(t, s, given...)
		all, err := s.Flows(t.Context(), 0, 10, false)
		if err != nil || len(all) != len(given) {
			t.Fatal(len(all), err)
		}
		for i := range given {
			same(t, all[i], given[i])
		}
		if n := store.Count(t, s, "packs"); n != 1 {
			t.Errorf("%d packs", n)
		}
	})
}
