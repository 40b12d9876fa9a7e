package store

import (
	"context"
	"database/sql"
	"io/fs"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/holdfast-proxy/holdfast/store/seal"
)

// OldVersions are those of the schema that a project may have been left in.
func OldVersions(t testing.TB) (versions []int64) {
	t.Helper()
	p := oldProvider(t, &sql.DB{}, sqlite())
	for _, source := range p.ListSources() {
		versions = append(versions, source.Version)
	}
	return versions[:len(versions)-1]
}

func oldProvider(t testing.TB, db *sql.DB, d dialect) *goose.Provider {
	t.Helper()
	folder, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(d.migrations, db, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// MakeOld makes a project as a version of the schema had it, under a key of
// zeros, with flows as far as that version had any. It returns their ids.
func MakeOld(t testing.TB, dsn string, version int64, flows []*Exchange) (ids []int64) {
	t.Helper()
	d := sqlite()
	if IsPostgres(dsn) {
		d = postgres()
	}
	db, err := sql.Open(d.driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := oldProvider(t, db, d).UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	if version < 30 {
		return nil
	}
	box, err := seal.New(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	zip, err := newZip()
	if err != nil {
		t.Fatal(err)
	}
	defer zip.Close()
	h := newHistory(&Store{dialect: d, box: box}, HistoryOptions{}, zip)
	h.block = &block{number: 1}
	columns := strings.Replace(commonColumns, ", pack", "", 1) + ", " + ownColumns + ", content"
	do := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), d.sql(statement), args...); err != nil {
			t.Fatal(err)
		}
	}
	do(`UPDATE numbers SET next = 2`)
	for _, x := range flows {
		e := newEntry(x, DefaultMaxBody, false)
		if err := h.place(context.Background(), e); err != nil {
			t.Fatal(err)
		}
		for i := range e.bodies {
			row := &e.bodies[i]
			h.sealBody(row)
			do(insertRows("bodies", "id, size, bytes, content", 1), row.id[:], int64(len(row.raw)), int64(len(row.sealed)), row.sealed)
			do(insertRows("flow_bodies", "flow, body", 1), e.id, row.id[:])
		}
		sealed := box.Seal(nil, zip.EncodeAll(e.content.b, nil), flowPlace(e.id))
		clear := e.common.values(nil)
		do(insertRows("flows", columns, 1), append(e.ownValues(clear[:len(clear)-1]), sealed)...)
		ids = append(ids, e.id)
	}
	request, response := h.block.signatures()
	do(insertRows("blocks", "block, flows, bytes, request, response", 1), h.block.number, h.block.flows, int64(1000), request, response)
	return ids
}

// Packs are the contents in packs, uncompressed, by flow; those that were
// deleted are not among them.
func Packs(t testing.TB, s *Store) map[int64]string {
	t.Helper()
	rows, err := s.db.QueryContext(t.Context(), "SELECT id, content FROM packs")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int64]string)
	if err := each(rows, func() error {
		var id int64
		var sealed []byte
		if err := rows.Scan(&id, &sealed); err != nil {
			return err
		}
		contents, err := s.openPack(id, sealed)
		for i, content := range contents {
			if len(content) > 0 {
				found[id+int64(i)] = string(content)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// CommitTwice commits flows as a group, and again as one does who was not told
// that it had succeeded.
func CommitTwice(t testing.TB, s *Store, flows ...*Exchange) {
	t.Helper()
	zip, err := newZip()
	if err != nil {
		t.Fatal(err)
	}
	defer zip.Close()
	h := newHistory(s, HistoryOptions{}, zip)
	var group []*entry
	for _, x := range flows {
		group = append(group, newEntry(x, DefaultMaxBody, false))
	}
	for range 2 {
		if err := h.commit(t.Context(), group); err != nil {
			t.Fatal(err)
		}
	}
}
