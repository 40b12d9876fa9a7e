package store

import (
	"context"
	"fmt"
	"time"
)

// PostgreSQL keeps the flows of each week, from Monday UTC on, in a partition.
const (
	week       = 7 * 24 * time.Hour
	weeksAhead = 3 // that are made: this one too
	weekPrefix = "flows_"
	weekFormat = "20060102" // its Monday
	weekLock   = 0x686f6c64 // of those who make or drop partitions
)

// makeWeeks makes the partitions of the weeks that come. A week that flows were
// kept of before it had one stays where it is.
func (s *Store) makeWeeks(ctx context.Context, now time.Time) error {
	if !s.dialect.numbered {
		return nil
	}
	monday := now.UTC().Truncate(week) // the zero time was a Monday
	for range weeksAhead {
		if err := s.makeWeek(ctx, monday); err != nil {
			return err
		}
		monday = monday.Add(week)
	}
	return nil
}

func (s *Store) makeWeek(ctx context.Context, monday time.Time) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, weekLock); err != nil {
		return err
	}
	name, from, to := weekPrefix+monday.Format(weekFormat), monday.UnixMicro(), monday.Add(week).UnixMicro()
	var known bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL OR EXISTS (SELECT 1 FROM flows WHERE at >= $2 AND at < $3)`, name, from, to).Scan(&known); err != nil || known {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`CREATE TABLE %s PARTITION OF flows FOR VALUES FROM (%d) TO (%d)`, name, from, to)); err != nil {
		return err
	}
	return tx.Commit()
}

// dropWeeks drops the partitions of weeks that ended before a time and of which
// every flow was deleted.
func (s *Store) dropWeeks(ctx context.Context, before time.Time) error {
	if !s.dialect.numbered {
		return nil
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, weekLock); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'flows'::regclass`)
	if err != nil {
		return err
	}
	var old []string
	if err := each(rows, func() error {
		var name string
		err := rows.Scan(&name)
		if monday, odd := time.Parse(weekPrefix+weekFormat, name); odd == nil && !monday.Add(week).After(before) {
			old = append(old, name) // a name of digits: safe in a statement
		}
		return err
	}); err != nil {
		return err
	}
	for _, name := range old {
		var used bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+name+`)`).Scan(&used); err != nil {
			return err
		}
		if used {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DROP TABLE `+name); err != nil {
			return err
		}
	}
	return tx.Commit()
}
