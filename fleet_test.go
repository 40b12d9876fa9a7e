package holdfast_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// fleetRules recover by a refresh token, which is replaced with each use, and
// else by a login. The texts of the macros differ from node to node, as they do
// where a change to them has reached some nodes and not the others yet.
const fleetRules = `
macros:
  - name: refresh
    steps:
      - request: |
          POST {{ORIGIN}}/api/refresh HTTP/1.1
          X-Node: {{NODE}}
          Content-Type: application/json

          {"refresh_token":"{{REFRESH}}"}
        expect: 'resp.code.eq:200'
        extract: &tokens
          - {token_name: ACCESS, source: {type: JSON, path: access_token}}
          - {token_name: REFRESH, source: {type: JSON, path: refresh_token}}
  - name: login
    steps:
      - request: |
          POST {{ORIGIN}}/api/login HTTP/1.1
          X-Node: {{NODE}}
          Content-Type: application/json

          {"username":"alice","password":"alicepass"}
        expect: 'resp.code.eq:200'
        extract: *tokens
rules:
  - name: api
    scope: {pattern: "127.0.0.1", target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: [refresh, login]
    token_updates:
      - {token_name: ACCESS, target: {type: RequestHeader, name: Authorization, template: "Bearer {{ACCESS}}"}}
`

// newFleet is nodes on one PostgreSQL, before one origin.
func newFleet(t *testing.T, o testenv.Origin, rules string, nodes int) (fleet []*world) {
	t.Helper()
	origin, err := o.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	project := storetest.Project{DSN: storetest.Postgres(t)}
	for n := range nodes {
		w := &world{t: t, origin: origin, home: t.TempDir(), project: project.Open(t, store.Options{})}
		w.start(ofNode(rules, n))
		fleet = append(fleet, w)
	}
	return fleet
}

// ofNode are the rules as one of the nodes has them.
func ofNode(rules string, n int) string {
	return strings.ReplaceAll(rules, "{{NODE}}", strconv.Itoa(n))
}

// all has every node asked, n requests at a time, and wants good answers.
func all(t *testing.T, fleet []*world, n int) {
	t.Helper()
	var group sync.WaitGroup
	for _, w := range fleet {
		for range n {
			group.Go(func() {
				if code, body := w.get("/api/items"); code != 200 {
					t.Errorf("got %d %s", code, body)
				}
			})
		}
	}
	group.Wait()
}

// reaches waits until the node's session is as wanted.
func (w *world) reaches(wanted func(session.Status) bool) {
	w.t.Helper()
	late := time.Now().Add(patience)
	for !wanted(w.h.Sessions()[0]) {
		if time.Now().After(late) {
			w.t.Fatalf("%+v", w.h.Sessions()[0])
		}
		<-time.After(time.Millisecond)
	}
}

func TestAFleetRecoversASessionOnce(t *testing.T) {
	origin := testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true}
	fleet := newFleet(t, origin, fleetRules, 3)
	const deaths = 10
	all(t, fleet, 4)
	for i := range deaths {
		if i%3 == 2 {
			fleet[0].origin.Revoke("alice") // the refresh token too
		} else {
			fleet[0].origin.Kill("alice")
		}
		all(t, fleet, 4)
	}
	s := fleet[0].origin.Stats()
	if s.Logins+s.Refreshes != deaths+1 || s.Replaced > 0 || s.BurntRefreshes > 0 || s.RevokedGrants > 0 {
		t.Errorf("%d logins, %d refreshes for %d deaths; %d sessions replaced alive, %d refresh tokens burnt, %d grants revoked",
			s.Logins, s.Refreshes, deaths, s.Replaced, s.BurntRefreshes, s.RevokedGrants)
	}
	for _, w := range fleet {
		w.reaches(func(s session.Status) bool { return s.Generation == deaths+1 && s.State == "alive" })
	}
}

// A node ends in the middle of a refresh that the origin has seen: the others
// cannot know the new refresh token, and do not send the old one again.
func TestAFleetDoesNotSpendARefreshTokenTwice(t *testing.T) {
	fleet := newFleet(t, testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true}, fleetRules, 3)
	origin := fleet[0].origin
	all(t, fleet, 1)
	origin.HoldAnswer("/api/refresh", "refresh")
	origin.Kill("alice")
	var group sync.WaitGroup
	group.Go(func() {
		if resp, err := fleet[0].client.Get(origin.URL + "/api/items"); err == nil { // which ends with its node
			resp.Body.Close()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := origin.WaitHeld(ctx, "refresh", 1); err != nil {
		t.Fatal(err)
	}
	group.Go(func() { all(t, fleet[1:], 2) })
	fleet[0].stop()
	group.Wait()
	s := origin.Stats()
	if s.Logins != 2 || s.Refreshes != 1 || s.BurntRefreshes > 0 || s.RevokedGrants > 0 {
		t.Errorf("%d logins, %d refreshes, %d refresh tokens burnt, %d grants revoked", s.Logins, s.Refreshes, s.BurntRefreshes, s.RevokedGrants)
	}
}

// Failed logins are one count.
func TestAFleetLocksNobodyOut(t *testing.T) {
	rules := strings.ReplaceAll(fleetRules, "alicepass", "wrong")
	fleet := newFleet(t, testenv.Origin{}, rules, 3)
	for range 3 {
		var group sync.WaitGroup
		for _, w := range fleet {
			group.Go(func() {
				if code, _ := w.get("/api/items"); code != 502 {
					t.Errorf("got %d", code)
				}
			})
		}
		group.Wait()
	}
	if got := fleet[0].origin.Stats().FailedLogins; got != 3 {
		t.Errorf("%d failed logins; want 3", got)
	}
}

// relay is the way to the database, which can be cut.
type relay struct {
	to string
	ln net.Listener

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	group sync.WaitGroup
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{to: to, ln: ln, conns: make(map[net.Conn]bool)}
	r.group.Go(r.accept)
	t.Cleanup(func() {
		ln.Close()
		r.set(true)
		r.group.Wait()
	})
	return r
}

func (r *relay) accept() {
	for {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", r.to)
		r.mu.Lock()
		if err != nil || r.cut {
			c.Close()
			if err == nil {
				far.Close()
			}
			r.mu.Unlock()
			continue
		}
		r.conns[c], r.conns[far] = true, true
		r.mu.Unlock()
		for _, pair := range [][2]net.Conn{{c, far}, {far, c}} {
			r.group.Go(func() {
				io.Copy(pair[0], pair[1])
				pair[0].Close()
				r.mu.Lock()
				delete(r.conns, pair[0])
				r.mu.Unlock()
			})
		}
	}
}

// set cuts the way, or opens it again.
func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	for c := range r.conns {
		if cut {
			c.Close()
		}
	}
}

// While the database is away, nodes go on with the session that they have; one
// that dies is recovered when it is back, once.
func TestAFleetWaitsForItsDatabase(t *testing.T) {
	origin, err := testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	dsn, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	way := newRelay(t, dsn.Host)
	dsn.Host = way.ln.Addr().String()
	dsn.RawQuery += "&sslmode=disable"
	var mu sync.Mutex
	var told []string
	var fleet []*world
	for n := range 2 {
		w := &world{t: t, origin: origin, home: t.TempDir(), project: storetest.Project{DSN: dsn.String()}.Open(t, store.Options{})}
		w.more = func(c *holdfast.Config) {
			c.Warn = func(text string) { mu.Lock(); told = append(told, text); mu.Unlock() }
		}
		w.start(ofNode(fleetRules, n))
		fleet = append(fleet, w)
	}
	away := func(want bool) {
		t.Helper()
		for _, w := range fleet {
			w.reaches(func(s session.Status) bool { return s.Away == want })
		}
	}
	all(t, fleet, 1)
	way.set(true)
	away(true)
	all(t, fleet, 2)
	origin.Kill("alice")
	var group sync.WaitGroup
	group.Go(func() { all(t, fleet, 2) })
	for _, w := range fleet { // which has met the dead session
		w.reaches(func(s session.Status) bool { return s.State == "recovering" })
	}
	if s := origin.Stats(); s.Logins+s.Refreshes != 1 {
		t.Errorf("%d logins, %d refreshes while nobody could say who", s.Logins, s.Refreshes)
	}
	way.set(false)
	group.Wait()
	away(false)
	if s := origin.Stats(); s.Logins != 1 || s.Refreshes != 1 || s.BurntRefreshes > 0 {
		t.Errorf("%d logins, %d refreshes, %d burnt", s.Logins, s.Refreshes, s.BurntRefreshes)
	}
	for _, w := range fleet {
		w.stop() // what was said has been said then
	}
	mu.Lock()
	defer mu.Unlock()
	for _, part := range []string{"the store cannot be asked", "the store answers again"} {
		n := 0
		for _, text := range told {
			if strings.HasPrefix(text, part) {
				n++
			}
		}
		if n < len(fleet) {
			t.Errorf("%q was said %d times", part, n)
		}
	}
}

// Sessions that were brought from another project are of no lease here: the next
// recovery is the newest for all nodes.
func TestAFleetGoesOnWithSessionsOfAnotherProject(t *testing.T) {
	fleet := newFleet(t, testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true}, fleetRules, 1)
	origin := fleet[0].origin
	for range 3 { // so that the fence is higher than it will be at first
		all(t, fleet, 1)
		origin.Kill("alice")
	}
	all(t, fleet, 1)
	rows, err := fleet[0].project.LoadAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fleet[0].stop()
	project := storetest.Project{DSN: storetest.Postgres(t)}
	err = project.Open(t, store.Options{}).Import(t.Context(), func(im *store.Import) error {
		for _, r := range rows {
			if err := im.State(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fleet = nil
	for n := range 2 {
		w := &world{t: t, origin: origin, home: t.TempDir(), project: project.Open(t, store.Options{})}
		w.start(ofNode(fleetRules, n))
		fleet = append(fleet, w)
	}
	all(t, fleet, 1)
	before := origin.Stats()
	if before.Logins+before.Refreshes != 4 {
		t.Errorf("%d logins and %d refreshes, want 4 in all", before.Logins, before.Refreshes)
	}
	origin.Kill("alice")
	for _, w := range fleet {
		all(t, []*world{w}, 1)
		for _, w := range fleet {
			w.reaches(func(s session.Status) bool { return s.Generation == 5 && s.State == "alive" })
		}
	}
	after := origin.Stats()
	if after.Logins+after.Refreshes != 5 || after.Replaced > 0 || after.BurntRefreshes > 0 {
		t.Errorf("%d logins, %d refreshes, want 5 in all; %d sessions replaced alive, %d refresh tokens burnt", after.Logins, after.Refreshes, after.Replaced, after.BurntRefreshes)
	}
}

// A session of a fleet goes on under a macro with another text, since the other
// nodes have the old one for a while; and that is what is said.
func TestASessionOfAFleetGoesOnUnderAnotherText(t *testing.T) {
	w := newFleet(t, testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true}, fleetRules, 1)[0]
	all(t, []*world{w}, 1)
	out, err := w.h.Reload(w.compile(ofNode(fleetRules, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if out.Sessions.GoOn != 1 || len(out.Sessions.Anew)+len(out.Sessions.GaveUp) > 0 {
		t.Errorf("said of the sessions: %+v", out.Sessions)
	}
	all(t, []*world{w}, 1)
	if s := w.origin.Stats(); s.Logins+s.Refreshes != 1 {
		t.Errorf("%d logins and %d refreshes, want one", s.Logins, s.Refreshes)
	}
}
