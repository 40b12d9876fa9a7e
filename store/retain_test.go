package store_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

func TestDelete(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		h := history(t, s, store.HistoryOptions{})
		shared := strings.Repeat("shared", 1000)
		h.Record(plain(t, "/a", shared), 0)
		h.Record(plain(t, "/b", shared), 0)
		h.Record(plain(t, "/c", strings.Repeat("own", 2000)), 0)
		flush(t, h)
		all, err := s.Flows(t.Context(), 0, 10, false)
		if err != nil || len(all) != 3 {
			t.Fatal(len(all), err)
		}
		step := func(bodies int, ids ...int64) {
			t.Helper()
			if n, err := s.Delete(t.Context(), append(ids, 1<<40)...); n != len(ids) || err != nil {
				t.Errorf("%d deleted, %v", n, err)
			}
			if n := store.Count(t, s, "bodies"); n != bodies {
				t.Errorf("%d bodies are left, want %d", n, bodies)
			}
		}
		step(2, all[0].ID)
		if one, err := s.Flow(t.Context(), all[1].ID); err != nil || string(one.Response.Raw) != shared {
			t.Errorf("the other flow lost its body: %v", err)
		}
		step(0, all[1].ID, all[2].ID)
		if n := store.Count(t, s, "blocks") + store.Count(t, s, "flow_bodies"); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestRetention(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		h := history(t, s, store.HistoryOptions{})
		begin := time.Unix(1_800_000_000, 0)
		const flows = 200
		for i := range flows {
			x := plain(t, fmt.Sprintf("/%d", i), strings.Repeat(fmt.Sprintf("%d ", i), 2000))
			x.Flow.Start = begin.Add(time.Duration(i) * time.Hour)
			h.Record(x, 0)
		}
		flush(t, h)
		now := begin.Add(flows * time.Hour)
		if n, err := s.Retain(t.Context(), store.Retention{Keep: 1000 * time.Hour, MaxSize: 1 << 40}, now); n != 0 || err != nil {
			t.Errorf("%d deleted, %v", n, err)
		}
		if n, err := s.Retain(t.Context(), store.Retention{Keep: 130 * time.Hour}, now); n != 70 || err != nil {
			t.Errorf("%d deleted by age, %v", n, err)
		}
		first, err := s.Flows(t.Context(), 0, 1, false)
		if err != nil || len(first) != 1 || string(first[0].Flow.Request.Path()) != "/70" {
			t.Errorf("the oldest: %v", err)
		}
		if n := store.Count(t, s, "bodies"); n != 130 {
			t.Errorf("%d bodies", n)
		}
		size, err := s.Size(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.Retain(t.Context(), store.Retention{MaxSize: size - 1}, now); n == 0 || n > 16 || err != nil {
			t.Errorf("%d deleted by size, %v", n, err)
		}
		if smaller, err := s.Size(t.Context()); err != nil || smaller >= size {
			t.Errorf("%d bytes, and %d before, %v", smaller, size, err)
		}
		if !store.IsPostgres(p.DSN) && (store.Number(t, s, "PRAGMA auto_vacuum") != 2 || store.Number(t, s, "PRAGMA freelist_count") > 100) {
			t.Errorf("auto_vacuum %d, %d free pages", store.Number(t, s, "PRAGMA auto_vacuum"), store.Number(t, s, "PRAGMA freelist_count"))
		}
	})
}

// Large flows go one by one: what is below the limit stays, the newest above all.
func TestRetentionBySizeLeavesWhatFits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		h := history(t, s, store.HistoryOptions{})
		empty, err := s.Size(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const flows, large, left = 40, 100_000, 10
		random := rand.NewChaCha8([32]byte{})
		for i := range flows {
			body := make([]byte, large) // which nothing makes smaller
			random.Read(body)
			h.Record(plain(t, fmt.Sprintf("/%d", i), string(body)), 0)
		}
		flush(t, h)
		limit := empty + left*large*11/10
		n, err := s.Retain(t.Context(), store.Retention{MaxSize: limit}, time.Now())
		if err != nil || n >= flows-left/2 || n < flows-left-2 {
			t.Errorf("%d of %d deleted, %v", n, flows, err)
		}
		if size, err := s.Size(t.Context()); err != nil || size > limit {
			t.Errorf("%d bytes, %d may be, %v", size, limit, err)
		}
		all, err := s.Flows(t.Context(), 0, 100, true)
		if err != nil || len(all) == 0 || len(all) != flows-n || string(all[0].Flow.Request.Path()) != fmt.Sprintf("/%d", flows-1) {
			t.Errorf("%d flows are left, %v", len(all), err)
		}
	})
}

// PostgreSQL has a partition for each week, made ahead, and dropped when it is
// over and empty.
func TestWeeks(t *testing.T) {
	s := storetest.Project{DSN: storetest.Postgres(t)}.Open(t, store.Options{})
	begin := time.Date(2026, 1, 7, 12, 0, 0, 0, time.UTC) // a Wednesday
	weeks := func(want int64) {                           // those that the history makes for now are not counted
		t.Helper()
		if n := store.Number(t, s, `SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'flows'::regclass AND relname < 'flows_20260201'`); n != want {
			t.Errorf("%d partitions, want %d", n, want)
		}
	}
	for range 2 { // the second time there is nothing to do
		store.MakeWeeks(t, s, begin)
		weeks(3)
	}
	h := history(t, s, store.HistoryOptions{})
	x := plain(t, "/a", "b")
	x.Flow.Start = begin
	h.Record(x, 0)
	flush(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	weeks(3)
	if n := store.Count(t, s, "flows_20260105"); n != 1 {
		t.Errorf("%d flows in the week", n)
	}
	if n := store.Count(t, s, "flows_other"); n != 0 {
		t.Errorf("%d flows in no week", n)
	}
	// A flow outside of all weeks is kept, and its week is not made then.
	h = history(t, s, store.HistoryOptions{})
	x.Flow.Start = begin.AddDate(-1, 0, 0)
	h.Record(x, 0)
	flush(t, h)
	store.MakeWeeks(t, s, x.Flow.Start)
	weeks(5)
	if n, err := s.Retain(t.Context(), store.Retention{Keep: time.Hour}, begin.AddDate(0, 0, 14)); n != 2 || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	weeks(1) // two of January are over, and the two of 2025
}
