package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

func load(t *testing.T, s *store.Store, kind, owner string) map[string]string {
	t.Helper()
	rows, err := s.Load(t.Context(), kind, owner)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, r := range rows {
		if len(r.Value) == 0 {
			continue
		}
		got[r.Name] = fmt.Sprintf("%s %d/%d", r.Value, r.Fence, r.Version)
	}
	return got
}

func TestTheNewestRowIsKept(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		save := func(rows ...store.Row) error { t.Helper(); return s.Save(t.Context(), rows...) }
		row := func(name string, fence, version uint64, value string) store.Row {
			return store.Row{Kind: "token", Owner: "alice", Name: name, Fence: fence, Version: version, Value: []byte(value)}
		}
		must := row("A", 0, 5, "five again")
		must.Must = true
		for i, step := range []struct {
			rows []store.Row
			want error
			a, b string
		}{
			{[]store.Row{row("A", 0, 5, "five")}, nil, "five 0/5", ""},
			{[]store.Row{row("A", 0, 4, "late"), row("B", 0, 1, "one")}, nil, "five 0/5", "one 0/1"},
			{[]store.Row{row("B", 0, 2, "two"), must}, store.ErrOutdated, "five 0/5", "one 0/1"},
			{[]store.Row{row("A", 1, 1, "fenced")}, nil, "fenced 1/1", "one 0/1"},
			{[]store.Row{row("A", 0, 9, "unfenced")}, nil, "fenced 1/1", "one 0/1"},
			{[]store.Row{row("A", 1, 2, "")}, nil, "", "one 0/1"},
			{[]store.Row{row("A", 1, 2, "back")}, nil, "", "one 0/1"},
			{[]store.Row{row("A", 1, 3, "new")}, nil, "new 1/3", "one 0/1"},
		} {
			if err := save(step.rows...); !errors.Is(err, step.want) {
				t.Fatalf("step %d: %v", i, err)
			}
			if got := load(t, s, "token", "alice"); got["A"] != step.a || got["B"] != step.b {
				t.Errorf("step %d: %v", i, got)
			}
		}
		if n, err := s.Forget(t.Context(), "token", "alice"); n != 2 || err != nil {
			t.Errorf("forgot %d, %v", n, err)
		}
		if got := load(t, s, "", "alice"); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
	})
}

// What Save has returned for is there for whoever opens the project next, and
// not in the clear.
func TestSavesAtTheSameTime(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				for v := range 4 {
					err := s.Save(t.Context(), store.Row{Kind: "cookie", Owner: fmt.Sprint(i % 4), Name: fmt.Sprint(i), Version: uint64(v + 1), Value: []byte("a secret value")})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		files, _ := filepath.Glob(p.DSN + "*")
		for _, file := range files {
			if raw, err := os.ReadFile(file); err != nil || bytes.Contains(raw, []byte("a secret value")) {
				t.Errorf("%s: in the clear, or %v", file, err)
			}
		}
		other := p.Open(t, store.Options{})
		for owner := range 4 {
			got := load(t, other, "cookie", fmt.Sprint(owner))
			if len(got) != 16 {
				t.Errorf("%d rows", len(got))
			}
			for name, value := range got {
				if value != "a secret value 0/4" {
					t.Errorf("%s: %s", name, value)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Save(t.Context(), store.Row{Kind: "cookie", Owner: "0", Name: "0", Version: 9}); err == nil {
			t.Error("a closed project took a row")
		}
	})
}
