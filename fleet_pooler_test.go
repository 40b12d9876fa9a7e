package holdfast_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// pgBouncer starts a PgBouncer that shares connections of a schema between
// transactions, and returns the DSN through it.
func pgBouncer(t *testing.T, direct string) (dsn string) {
	t.Helper()
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // where Debian has it, and not everybody's PATH
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	dir := t.TempDir()
	// Two connections for all nodes, so that each statement is on another one
	// than the last.
	text := fmt.Sprintf(`[databases]
test = host=%s port=%s dbname=%s user=%s connect_query='SET search_path TO %s'
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
`, u.Hostname(), u.Port(), strings.TrimPrefix(u.Path, "/"), u.User.Username(), u.Query().Get("search_path"), host, port)
	if os.Getuid() == 0 {
		text += "user = nobody\n" // it does not run as root
	}
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // which nobody may read
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	cmd := exec.Command(program, file)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("PgBouncer: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		if err == nil {
			c.Close()
			return "postgres://" + u.User.Username() + "@" + net.JoinHostPort(host, port) + "/test?sslmode=disable"
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("PgBouncer: %v\n%s", err, &said)
		case <-ctx.Done():
			t.Fatalf("PgBouncer does not listen\n%s", &said)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Behind PgBouncer, nodes are a fleet as without it: all is asked through it, and
// what wants a connection of its own goes past it.
func TestAFleetBehindPgBouncer(t *testing.T) {
	direct := storetest.Postgres(t)
	dsn := pgBouncer(t, direct)
	origin, err := testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	var fleet []*world
	for n := range 3 {
		w := &world{t: t, origin: origin, home: t.TempDir(), project: storetest.Project{DSN: dsn}.Open(t, store.Options{Direct: direct})}
		w.start(ofNode(fleetRules, n))
		fleet = append(fleet, w)
	}
	const deaths = 5
	all(t, fleet, 4)
	for range deaths {
		origin.Kill("alice")
		all(t, fleet, 4)
	}
	for _, w := range fleet {
		w.reaches(func(s session.Status) bool { return s.Generation == deaths+1 && s.State == "alive" })
	}
	if s := origin.Stats(); s.Logins != 1 || s.Refreshes != deaths || s.Replaced > 0 || s.BurntRefreshes > 0 {
		t.Errorf("%d logins, %d refreshes for %d deaths; %d replaced, %d burnt", s.Logins, s.Refreshes, deaths, s.Replaced, s.BurntRefreshes)
	}
	for _, w := range fleet {
		w.stop()
		if st, ok := w.h.History(); !ok || st.Dropped > 0 || st.Written == 0 {
			t.Errorf("%+v", st)
		}
	}
	found, err := fleet[0].project.Search(t.Context(), store.Search{Limit: 1000})
	if err != nil || len(found.Flows) < 3*4*(deaths+1) {
		t.Errorf("%d flows, %v", len(found.Flows), err)
	}
}

// Nobody spoke of the pooler: that is said.
func TestAPoolerThatNobodySpokeOf(t *testing.T) {
	dsn := pgBouncer(t, storetest.Postgres(t))
	var err error
	for range 2 { // the first has prepared its statements on the connection that the second gets
		var s *store.Store
		if s, err = (storetest.Project{DSN: dsn}).Try(t, store.Options{}); err == nil {
			defer s.Close()
			_, err = s.Load(t.Context(), "", "alice")
		}
	}
	if !errors.Is(err, store.ErrPooled) || !strings.Contains(err.Error(), "say with --listen-dsn") {
		t.Errorf("%v", err)
	}
}
