package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bounds of watching.
const (
	pollEvery  = time.Second     // how late a change is seen of which no hint arrived
	pollWait   = 5 * time.Second // until a database that says nothing counts as away
	listenLow  = 100 * time.Millisecond
	listenHigh = 5 * time.Second  // between two attempts to listen
	listenPing = 30 * time.Second // how long a connection that says nothing is believed
	maxHints   = 1024             // that wait; those beyond are found by polling
	maxKey     = 1024             // bytes of a key that changes
)

// Change says that what is kept under a key is of a version now.
type Change struct {
	Key     string
	Version int64
}

// Watcher is who hears of changes. Its functions are called by one goroutine.
type Watcher struct {
	// Changed reads what is kept under the key. After an error it is called
	// again, until it is done.
	Changed func(ctx context.Context, c Change) error
	// Away is told, once each time, that the database cannot be asked, and Back
	// that it can again. nil: nobody listens.
	Away func(error)
	Back func()
}

// Watch tells of every key's present version, then of those that change, until
// ctx ends. Versions may be skipped, the last one never is. How soon: at once
// where the database's hint arrives, else within a second or so, and after the
// database was away when it is back.
func (s *Store) Watch(ctx context.Context, w Watcher) {
	ctx, cancel := context.WithCancel(ctx)
	hints, again := make(chan Change, maxHints), make(chan struct{}, 1)
	s.feed.add(hints)
	var group sync.WaitGroup
	if s.dialect.numbered {
		group.Go(func() { s.listen(ctx, hints, again) })
	}
	defer func() {
		cancel()
		s.feed.remove(hints)
		group.Wait()
	}()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	v := viewer{store: s, watcher: w, known: make(map[string]int64)}
	for v.poll(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case c := <-hints:
			v.see(ctx, c)
		case <-again:
			v.poll(ctx)
		case <-tick.C:
			v.poll(ctx)
		}
	}
}

// viewer is one Watch.
type viewer struct {
	store   *Store
	watcher Watcher
	known   map[string]int64 // versions that the watcher has read
	away    bool
}

// see has the watcher read what is newer than it knows.
func (v *viewer) see(ctx context.Context, c Change) bool {
	if c.Version <= v.known[c.Key] {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	if err := v.watcher.Changed(ctx, c); err != nil {
		v.is(ctx, err)
		return false
	}
	v.known[c.Key] = c.Version
	return true
}

// is notes whether the database answers.
func (v *viewer) is(ctx context.Context, err error) {
	if ctx.Err() == context.Canceled || v.away == (err != nil) {
		return
	}
	v.away = err != nil
	switch {
	case v.away && v.watcher.Away != nil:
		v.watcher.Away(err)
	case !v.away && v.watcher.Back != nil:
		v.watcher.Back()
	}
}

// poll asks for all versions: a key's rises by one with each change, but keys
// change in no order, so that there is no last one of all.
func (v *viewer) poll(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, pollWait)
	changes, err := v.store.changes(limited)
	cancel()
	if ctx.Err() != nil {
		return
	}
	for _, c := range changes {
		if !v.see(ctx, c) {
			return
		}
	}
	v.is(ctx, err)
}

func (s *Store) changes(ctx context.Context) (all []Change, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT key, version FROM changes`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c Change
		if err := rows.Scan(&c.Key, &c.Version); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// changed notes in a transaction that something changed under a key, and has
// the others told when it is committed; of a file that is s.feed.tell.
func (s *Store) changed(ctx context.Context, tx *sql.Tx, key string) (c Change, err error) {
	if len(key) > maxKey {
		return c, fmt.Errorf("store: a key of %d bytes", len(key))
	}
	c.Key = key
	err = tx.QueryRowContext(ctx, s.dialect.sql(`INSERT INTO changes (key, version) VALUES (?, 1)
		ON CONFLICT (key) DO UPDATE SET version = changes.version + 1 RETURNING version`), key).Scan(&c.Version)
	if err == nil && s.dialect.numbered {
		_, err = tx.ExecContext(ctx, `SELECT pg_notify($1, $2)`, s.channel, strconv.FormatInt(c.Version, 10)+" "+key)
	}
	return c, err
}

// listen passes the server's hints on, over a connection of its own that it
// makes again when it is lost. again: hints may have been missed.
func (s *Store) listen(ctx context.Context, hints chan<- Change, again chan<- struct{}) {
	pause := listenLow
	for {
		began := time.Now()
		s.listenOnce(ctx, hints, again)
		if time.Since(began) > listenHigh {
			pause = listenLow
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		pause = min(2*pause, listenHigh)
	}
}

func (s *Store) listenOnce(ctx context.Context, hints chan<- Change, again chan<- struct{}) {
	first, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	conn, err := pgx.Connect(first, s.direct)
	if err != nil {
		return // the poll tells whether the database is away
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), pollWait)
		defer cancel()
		conn.Close(bye)
	}()
	if _, err := conn.Exec(first, "LISTEN "+s.channel); err != nil {
		return
	}
	select {
	case again <- struct{}{}:
	default:
	}
	for {
		wait, cancel := context.WithTimeout(ctx, listenPing)
		n, err := conn.WaitForNotification(wait)
		quiet := wait.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			version, key, _ := strings.Cut(n.Payload, " ")
			if c := (Change{Key: key}); key != "" {
				if c.Version, err = strconv.ParseInt(version, 10, 64); err == nil {
					select {
					case hints <- c:
					default: // the poll finds it
					}
				}
			}
		case quiet && !conn.IsClosed():
			ping, cancel := context.WithTimeout(ctx, pollWait)
			err = conn.Ping(ping)
			cancel()
			if err != nil {
				return
			}
		default:
			return
		}
	}
}

// feed are those who watch in this process.
type feed struct {
	mu       sync.Mutex
	watchers map[chan<- Change]bool
}

func (f *feed) add(hints chan<- Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == nil {
		f.watchers = make(map[chan<- Change]bool)
	}
	f.watchers[hints] = true
}

func (f *feed) remove(hints chan<- Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watchers, hints)
}

// tell says what has been committed.
func (f *feed) tell(c Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for hints := range f.watchers {
		select {
		case hints <- c:
		default: // the poll finds it
		}
	}
}

// prepareFeed has the project's nodes know where to listen.
func (s *Store) prepareFeed(ctx context.Context) error {
	if !s.dialect.numbered {
		return nil
	}
	var name []byte
	drawn := make([]byte, 16)
	rand.Read(drawn)
	if _, err := s.db.ExecContext(ctx, s.dialect.sql(`INSERT INTO project (name, value) VALUES ('channel', ?) ON CONFLICT (name) DO NOTHING`), drawn); err != nil {
		return err
	}
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM project WHERE name = 'channel'`).Scan(&name); err != nil {
		return err
	}
	s.channel = "holdfast_" + hex.EncodeToString(name) // one database may have several projects
	return nil
}
