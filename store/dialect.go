package store

import (
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
)

// dialect is what two databases do not say alike.
type dialect struct {
	name       string // "sqlite" or "postgres"; of the folder in migrations, too
	driver     string // of database/sql
	migrations goose.Dialect
	numbered   bool   // placeholders are $1, $2, … and not ?
	now        string // the database's clock: microseconds since 1970 UTC
}

func sqlite() dialect {
	return dialect{name: "sqlite", driver: "sqlite", migrations: goose.DialectSQLite3,
		now: "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"}
}

func postgres() dialect {
	return dialect{name: "postgres", driver: "pgx", migrations: goose.DialectPostgres, numbered: true,
		now: "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"} // now() would be that of the transaction's begin
}

// rowsOf is how many rows one statement inserts of n. That of a file is prepared,
// hence for few numbers of rows.
func (d dialect) rowsOf(n int) int {
	switch {
	case d.numbered:
		return min(n, maxRows)
	case n >= 16:
		return 16
	case n >= 4:
		return 4
	}
	return 1
}

// sql writes a statement with placeholders ? as the database wants it. The
// statement has no ? elsewhere.
func (d dialect) sql(statement string) string {
	if !d.numbered {
		return statement
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(statement, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		statement = after
	}
}
