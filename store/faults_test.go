package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// told collects what a person was told.
func told() (warn func(string, ...any), texts chan string) {
	texts = make(chan string, 1000)
	return func(format string, args ...any) { texts <- fmt.Sprintf(format, args...) }, texts
}

// heard waits for a text.
func heard(t *testing.T, texts chan string, part string) {
	t.Helper()
	late := time.After(limit)
	for {
		select {
		case text := <-texts:
			if strings.Contains(text, part) {
				return
			}
		case <-late:
			t.Fatalf("nobody said %q", part)
		}
	}
}

// A disk that stands still costs bodies, then flows, in a bounded memory, and
// nobody who records waits for it.
func TestWhatTheDiskCannotFollowIsLeftOut(t *testing.T) {
	warn, texts := told()
	s := storetest.File(t).Open(t, store.Options{Warn: warn})
	const memory, flows = 100_000, 2000
	h := history(t, s, store.HistoryOptions{QueueBytes: memory})
	goOn := store.Halt(t, s)
	for range flows {
		h.Record(plain(t, "/x", strings.Repeat("y", 40_000)), 0)
		if n := h.Stats().Bytes; n > memory {
			t.Fatalf("%d bytes are held, %d may be", n, memory)
		}
	}
	st := h.Stats()
	if st.Dropped == 0 || st.Bodies < 100 || st.Bodies+2 < uint64(flows)-st.Dropped {
		t.Errorf("%+v", st)
	}
	heard(t, texts, "flows are left out")
	goOn()
	flush(t, h)
	heard(t, texts, "is written again")
	if st = h.Stats(); st.Written+st.Dropped != flows || st.Bytes != 0 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	if h.Hold(memory + 1) {
		t.Error("more than the budget was given")
	}
	all, err := s.Flows(t.Context(), 0, 1000, false)
	if err != nil || uint64(len(all)) != st.Written {
		t.Fatalf("%d flows of %d, %v", len(all), st.Written, err)
	}
	if first, last := all[0].Response, all[len(all)-1].Response; first.Cut || !last.Cut || last.Size != 40_000 {
		t.Errorf("first %v, last %v", first.Cut, last.Cut)
	}
	if err := h.Close(); err == nil {
		t.Error("Close does not tell that flows are missing")
	}
}

func TestAFullDiskEndsNothing(t *testing.T) {
	for name, fault := range map[string]struct{ begin, end, says string }{
		"full":      {"PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "the disk is full: make room"},
		"read-only": {"PRAGMA query_only = 1", "PRAGMA query_only = 0", "cannot be written to: give yourself the right"},
	} {
		t.Run(name, func(t *testing.T) {
			warn, texts := told()
			s := storetest.File(t).Open(t, store.Options{Warn: warn})
			h := history(t, s, store.HistoryOptions{})
			store.Do(t, s, fault.begin)
			for range 100 {
				h.Record(plain(t, "/x", strings.Repeat("y", 9000)), 0)
			}
			heard(t, texts, fault.says)
			if st := h.Stats(); !strings.Contains(st.Failing, fault.says) || st.Dropped > 0 {
				t.Errorf("%+v", st)
			}
			store.Do(t, s, fault.end)
			flush(t, h)
			heard(t, texts, "is written again")
			if st := h.Stats(); st.Written != 100 || st.Dropped+st.Bodies > 0 || st.Failing != "" {
				t.Errorf("%+v", st)
			}
		})
	}
}

// What keeps sessions from being kept is told with the next step, too.
func TestWhatCannotBeSaved(t *testing.T) {
	s := storetest.File(t).Open(t, store.Options{})
	row := store.Row{Kind: "token", Owner: "alice", Name: "T", Version: 1, Value: []byte("t")}
	store.Do(t, s, "PRAGMA query_only = 1")
	if err := s.Save(t.Context(), row); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), "give yourself the right") {
		t.Errorf("read-only: %v", err)
	}
	store.Do(t, s, "PRAGMA query_only = 0")
	goOn := store.Halt(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Save(ctx, row); !errors.Is(err, store.ErrSlow) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another program holds it") {
		t.Errorf("halted: %v", err)
	}
	goOn()
	if err := s.Save(t.Context(), row); err != nil {
		t.Error(err)
	}
}

// What is wrong with a project is told with its place and the next step.
func TestWhatIsWrongWithAProject(t *testing.T) {
	try := func(t *testing.T, p storetest.Project, kind error, next string, pragmas ...string) {
		t.Helper()
		_, err := p.Try(t, store.WithPragmas(store.Options{}, pragmas...))
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), next) || !strings.Contains(err.Error(), p.DSN) {
			t.Errorf("%v; want %q with %q", err, kind, next)
		}
	}
	t.Run("locked", func(t *testing.T) {
		t.Parallel()
		p := storetest.File(t)
		p.Open(t, store.Options{}).Close()
		db, err := sql.Open("sqlite", p.DSN+"?_pragma=locking_mode(exclusive)&_txlock=exclusive")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		try(t, p, store.ErrBusy, "end it")
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		try(t, storetest.File(t), store.ErrFull, "make room", "max_page_count(1)")
	})
	t.Run("read-only", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 { // who may write to every directory but this
			dir = "/sys"
		}
		dsn := filepath.Join(dir, "project.db")
		try(t, storetest.Project{DSN: dsn}, store.ErrReadOnly, "give yourself the right")
		if _, err := store.NewClaim(dsn, "holdfast serve"); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), "give yourself the right") || !strings.Contains(err.Error(), dsn) {
			t.Errorf("claimed: %v", err)
		}
	})
	t.Run("no database", func(t *testing.T) {
		p := storetest.File(t)
		if err := os.WriteFile(p.DSN, bytes.Repeat([]byte("no database. "), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		try(t, p, store.ErrDamaged, ".recover")
	})
	t.Run("newer", func(t *testing.T) {
		storetest.Each(t, func(t *testing.T, p storetest.Project) {
			s := p.Open(t, store.Options{})
			store.Do(t, s, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, ?)`, true)
			s.Close()
			if _, err := p.Try(t, store.Options{}); !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "use a newer Holdfast") {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("damaged", func(t *testing.T) {
		t.Parallel()
		p := storetest.File(t)
		s := p.Open(t, store.Options{})
		h := history(t, s, store.HistoryOptions{})
		for range 100 {
			h.Record(plain(t, "/x", strings.Repeat("y", 900)), 0)
		}
		flush(t, h)
		s.Close()
		raw, err := os.ReadFile(p.DSN)
		if err != nil {
			t.Fatal(err)
		}
		for i := 4096; i < len(raw); i++ {
			raw[i] = 0xaa
		}
		if err := os.WriteFile(p.DSN, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err = p.Try(t, store.Options{})
		if err == nil {
			_, err = s.Flows(context.Background(), 0, 1000, false)
			s.Close()
		}
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("got %v", err)
		}
	})
}
