package holdfast_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

var reloads = flag.Int("reloads", 60, "how often TestReloadsUnderLoad changes the configuration")

// door is an application behind a login: it takes only tokens that it gave, and
// notes requests whose two headers do not agree.
type door struct {
	*httptest.Server
	mu            sync.Mutex
	tokens        map[string]string // by the token: the login that brought it
	logins        map[string]int    // by password
	half, refused atomic.Int64
	seen          sync.Map     // values of the header
	hold          atomic.Value // of chan struct{}: logins wait for it
	waiting       chan struct{}
}

func newDoor(t *testing.T) *door {
	d := &door{tokens: make(map[string]string), logins: make(map[string]int), waiting: make(chan struct{}, 100)}
	d.hold.Store((chan struct{})(nil))
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/login") {
		body, _ := io.ReadAll(r.Body)
		if hold := d.hold.Load().(chan struct{}); hold != nil {
			d.waiting <- struct{}{}
			<-hold
		}
		d.mu.Lock()
		d.logins[r.URL.Path+string(body)]++
		token := fmt.Sprintf("token-%d", len(d.tokens)+1)
		d.tokens[token] = r.URL.Path + string(body)
		d.mu.Unlock()
		fmt.Fprintf(w, `{"token":%q}`, token)
		return
	}
	one, two := r.Header.Get("X-One"), r.Header.Get("X-Two")
	if one != two {
		d.half.Add(1)
	}
	d.seen.Store(one, true)
	d.mu.Lock()
	by, ok := d.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	d.mu.Unlock()
	if !ok {
		d.refused.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("X-By", by)
	fmt.Fprint(w, one)
}

func (d *door) count(login string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logins[login]
}

// doorRules are a configuration whose two rules put in the same value.
const doorRules = `
variables: {BASE: "{{ORIGIN}}", SAYS: "%[1]s"}
identities: {alice: {variables: {PASS: %[2]s}}}
macros:
  - name: login
    steps:
      - request: |
          POST {{BASE}}/login HTTP/1.1

          {{PASS}}
        extract: [{token_name: ACCESS, source: {type: JSON, path: token}}]
rules:
  - name: one
    scope: {pattern: "127.0.0.1", target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: login
    token_updates: [{token_name: ACCESS, target: {type: RequestHeader, name: Authorization, template: "Bearer {{ACCESS}}"}}]
    actions: [set_header: {name: X-One, value: "%[1]s", if_absent: add}]
  - name: two
    scope: {pattern: "127.0.0.1", target: host}
    actions: [set_header: {name: X-Two, value: "{{SAYS}}", if_absent: add}]
`

// doorFile is doorRules, compiled.
func (w *world) doorFile(says, pass string) *config.File {
	return w.compile(fmt.Sprintf(doorRules, says, pass))
}

func (w *world) compile(rules string) *config.File {
	w.t.Helper()
	file, _, err := config.Parse("rules.yaml", []byte(strings.ReplaceAll(rules, "{{ORIGIN}}", w.origin.URL)), config.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return file
}

func doorWorld(t *testing.T, rules string) (*world, *door) {
	d := newDoor(t)
	w := &world{t: t, origin: &testenv.Server{URL: d.URL}, home: t.TempDir()}
	w.start(rules)
	return w, d
}

// Every request is dealt with by one configuration, from begin to end, and none
// fails, however often the configuration changes.
func TestReloadsUnderLoad(t *testing.T) {
	w, d := doorWorld(t, fmt.Sprintf(doorRules, "0", "secret"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		clients.Go(func() {
			client := w.newClient("alice")
			for ctx.Err() == nil {
				r, err := client.Get(d.URL + "/items")
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				body, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || r.StatusCode != 200 || len(body) == 0 {
					t.Errorf("a client got %d %q, %v", r.StatusCode, body, err)
				}
				answered.Add(1)
			}
		})
	}
	for n := 1; n <= *reloads; n++ {
		if _, err := w.h.Reload(w.doorFile(fmt.Sprint(n), "secret")); err != nil {
			t.Fatal(err)
		}
		until(t, func() bool { _, ok := d.seen.Load(fmt.Sprint(n)); return ok || t.Failed() })
	}
	cancel()
	clients.Wait()
	t.Logf("%d reloads, %d requests, %d logins", *reloads, answered.Load(), d.count("/loginsecret"))
	if n := d.half.Load(); n > 0 {
		t.Errorf("%d requests were dealt with by halves of two configurations", n)
	}
	if n := d.count("/loginsecret"); n != 1 {
		t.Errorf("%d logins: the session did not go on", n)
	}
	if n := d.refused.Load(); n > 0 {
		t.Errorf("%d requests had no token", n)
	}
}

// What means the same goes on, what does not begins anew, and what is gone is
// given up.
func TestReloadKeepsSessionsThatMeanTheSame(t *testing.T) {
	w, d := doorWorld(t, fmt.Sprintf(doorRules, "0", "secret"))
	by := func(want string) {
		t.Helper()
		r, err := w.client.Get(d.URL + "/items")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if got := r.Header.Get("X-By"); r.StatusCode != 200 || got != want {
			t.Errorf("answered %d to the session of %q, want %q", r.StatusCode, got, want)
		}
	}
	by("/loginsecret")
	reload := func(rules string) *holdfast.Reloaded {
		t.Helper()
		out, err := w.h.Reload(w.compile(rules))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	plain := fmt.Sprintf(doorRules, "0", "secret")
	out := reload(strings.Replace(plain, "name: two", "name: three", 1))
	if got := out.String(); got != "configuration 2 holds: rules +three -two; sessions: 1 go on" {
		t.Error(got)
	}
	by("/loginsecret")
	if n := d.count("/loginsecret"); n != 1 {
		t.Fatalf("%d logins, want 1", n)
	}
	out = reload(fmt.Sprintf(doorRules, "0", "other"))
	if len(out.Sessions.Anew) != 1 || out.Sessions.GoOn != 0 {
		t.Errorf("with another password: %+v", out.Sessions)
	}
	by("/loginother")
	out = reload(strings.Replace(fmt.Sprintf(doorRules, "0", "other"), "/login HTTP", "/login2 HTTP", 1))
	if len(out.Sessions.Anew) != 1 || len(out.Macros.Changed) != 1 {
		t.Errorf("with another macro: %+v", out)
	}
	by("/login2other")
	out = reload(strings.Replace(plain, "alice", "bob", 1))
	if len(out.Sessions.GaveUp) != 1 || fmt.Sprint(out.Identities) != "{[bob] [alice] []}" {
		t.Errorf("with another identity: %+v", out)
	}
	by("/loginsecret")
	if names := w.h.Engine().Names(); len(names) != 1 || names[0] != "bob" {
		t.Errorf("the identities are %v", names)
	}
}

// A recovery ends under the configuration that it began with, for those who wait
// for it, and what it brings is not taken for the session of another.
func TestReloadDuringRecovery(t *testing.T) {
	w, d := doorWorld(t, fmt.Sprintf(doorRules, "0", "secret"))
	hold := make(chan struct{})
	d.hold.Store(hold)
	got := make(chan string, 3)
	get := func() {
		r, err := w.newClient("").Get(d.URL + "/items")
		if err != nil {
			got <- err.Error()
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		got <- fmt.Sprint(r.StatusCode, string(body), r.Header.Get("X-By"))
	}
	go get()
	<-d.waiting
	if _, err := w.h.Reload(w.doorFile("1", "secret")); err != nil { // the same session
		t.Fatal(err)
	}
	go get()
	until(t, func() bool { return w.h.Engine().Counts().Requests >= 2 })
	if _, err := w.h.Reload(w.doorFile("2", "other")); err != nil { // somebody else's
		t.Fatal(err)
	}
	go get()
	<-d.waiting
	close(hold)
	seen := map[string]int{}
	for range 3 {
		seen[<-got]++
	}
	if seen["2000/loginsecret"] != 1 || seen["2001/loginsecret"] != 1 || seen["2002/loginother"] != 1 {
		t.Errorf("the answers are %v", seen)
	}
	if d.count("/loginsecret") != 1 || d.count("/loginother") != 1 {
		t.Errorf("the logins are %v", d.logins)
	}
}

// What cannot change while it runs is refused by name, and nothing changes.
func TestReloadRefusesWhatIsFixed(t *testing.T) {
	w, _ := doorWorld(t, fmt.Sprintf(doorRules, "0", "secret"))
	_, err := w.h.Reload(w.compile(fmt.Sprintf(doorRules, "1", "secret") + "listen: [{address: \"127.0.0.1:0\"}]\nframing: lenient\n"))
	var fixed *holdfast.RestartError
	if !errors.As(err, &fixed) || strings.Join(fixed.Keys, " ") != "listen framing" || !strings.Contains(err.Error(), "restart") {
		t.Errorf("the error is %v", err)
	}
	if got := w.h.File().Variables["SAYS"]; got != "0" {
		t.Errorf("after a refusal the configuration says %q", got)
	}
}

// Connections of other ways out are of no use any more, and what is under way on
// them ends there.
func TestReloadChangesWaysOut(t *testing.T) {
	w, d := doorWorld(t, fmt.Sprintf(doorRules, "0", "secret"))
	for n := range 5 {
		if _, err := w.h.Reload(w.compile(fmt.Sprintf(doorRules, "0", "secret") + fmt.Sprintf("timeouts: {idle: %ds}\n", n+10))); err != nil {
			t.Fatal(err)
		}
		if code, _ := w.get("/items"); code != 200 {
			t.Fatalf("with other ways out: %d", code)
		}
	}
	if n := d.count("/loginsecret"); n != 1 {
		t.Errorf("%d logins: the session did not go on", n)
	}
}

// until waits for something that must happen.
func until(t *testing.T, happened func() bool) {
	t.Helper()
	limit, look := time.After(patience), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !happened() {
		select {
		case <-look.C:
		case <-limit:
			t.Fatal("what was waited for did not happen")
		}
	}
}

// newDoorWorld is a proxy with a project in front of a door, and its rules.
func newDoorWorld(t *testing.T) (w *world, rules string) {
	d := newDoor(t)
	w = &world{t: t, origin: &testenv.Server{URL: d.URL}, home: t.TempDir()}
	w.project = storetest.Project{DSN: filepath.Join(w.home, "project.db")}.Open(t, store.Options{})
	rules = fmt.Sprintf(doorRules, "0", "secret")
	w.start(rules)
	return w, rules
}

// What was changed by hand lies over the file, and is there after a restart, until
// the file says something else.
func TestChangesByHandOutlastARestart(t *testing.T) {
	w, plain := newDoorWorld(t)
	extra := "name: extra\nscope: {pattern: \"127.0.0.1\", target: host}\nactions: [set_header: {name: X-Extra, value: yes, if_absent: add}]\n"
	change := func(want string, edits ...holdfast.Edit) {
		t.Helper()
		switch _, err := w.h.Change(edits...); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("changed with %v, want %q", err, want)
		}
	}
	change("", holdfast.Edit{Kind: "rule", Text: extra})
	change("already", holdfast.Edit{Kind: "rule", Text: extra})
	change("needed by the rules one", holdfast.Edit{Kind: "macro", Name: "login"})
	change("There is no rule", holdfast.Edit{Kind: "rule", Name: "nobody"})
	change("rule bad:1:13", holdfast.Edit{Kind: "rule", Text: "{name: bad, scoop: 1}"})
	if _, err := w.h.SetRuleEnabled("two", false); err != nil {
		t.Fatal(err)
	}
	rules := func() string {
		text := ""
		for _, r := range w.h.Rules() {
			text += fmt.Sprintf("%s %t %s; ", r.Name, r.Enabled, w.h.File().By("rule", r.Name))
		}
		return text
	}
	const want = "one true file; two false project; extra true project; "
	if got := rules(); got != want {
		t.Errorf("the rules are %s", got)
	}
	w.stop()
	w.start(plain)
	if got := rules(); got != want {
		t.Errorf("after a restart the rules are %s", got)
	}
	w.stop()
	w.start(strings.Replace(plain, "X-Two", "X-2", 1))
	if got := rules(); got != "one true file; two true file; extra true project; " {
		t.Errorf("after the file has changed the rules are %s", got)
	}
	put := strings.ReplaceAll(fmt.Sprintf(doorRules, "9", "secret"), "{{ORIGIN}}", w.origin.URL)
	if _, err := w.h.Put(put); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start(strings.Replace(plain, "X-Two", "X-2", 1))
	if got := w.h.File().Variables["SAYS"]; got != "9" || len(w.h.Rules()) != 2 {
		t.Errorf("after a restart the configuration that was put says %q, and has %d rules", got, len(w.h.Rules()))
	}
	w.stop()
	w.start(plain)
	if got := w.h.File().Variables["SAYS"]; got != "0" {
		t.Errorf("after the file has changed the configuration says %q", got)
	}
}

// A variable that a macro brings lies over the file with it, until the macro is gone
// or the file has one of that name. What is there is not changed.
func TestVariablesOfMacrosOutlastARestart(t *testing.T) {
	w, plain := newDoorWorld(t)
	change := func(want string, edits ...holdfast.Edit) {
		t.Helper()
		switch _, err := w.h.Change(edits...); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("changed with %v, want %q", err, want)
		}
	}
	variables := func() string {
		f := w.h.File()
		return fmt.Sprintf("%s %s %s", f.Variables["SAYS"], f.Variables["BRINGS"], f.Identities["alice"].Variables["WORD"])
	}
	macro := holdfast.Edit{Kind: "macro", Text: "{name: brought, steps: [{request: \"GET {{BRINGS}}/{{url:WORD}} HTTP/1.1\"}]}"}
	brings := holdfast.Edit{Kind: "variable", Name: "BRINGS", Text: w.origin.URL}
	word := holdfast.Edit{Kind: "variable", Name: "WORD", Identity: "alice", Text: "a: word # of \"alice\""}
	change("nothing defines {{BRINGS}}", macro)
	change("There is a variable \"SAYS\" already", macro, brings, word, holdfast.Edit{Kind: "variable", Name: "SAYS", Text: "1"})
	change("There is no identity \"bob\"", holdfast.Edit{Kind: "variable", Name: "WORD", Identity: "bob", Text: "1"})
	change("would read as a reference", brings, macro, holdfast.Edit{Kind: "variable", Name: "WORD", Identity: "alice", Text: "${file:/etc/passwd}"})
	change("", brings, word, macro)
	change("already", word)
	want := "0 " + w.origin.URL + " " + word.Text
	if got := variables(); got != want {
		t.Errorf("the variables are %s", got)
	}
	w.stop()
	w.start(plain)
	if got := variables(); got != want || len(w.h.File().Macros) != 2 {
		t.Errorf("after a restart the variables are %s, want %s", got, want)
	}
	if text, err := w.h.File().Text(); err != nil || !strings.Contains(string(text), "BRINGS") {
		t.Errorf("the exported text lacks them: %s, %v", text, err)
	}
	w.stop()
	w.start(strings.Replace(plain, "variables: {", "variables: {BRINGS: \"http://file.example\", ", 1))
	if got := variables(); got != "0 http://file.example "+word.Text {
		t.Errorf("where the file has one the variables are %s", got)
	}
	change("", holdfast.Edit{Kind: "macro", Name: "brought"})
	if got := variables(); got != "0 http://file.example " {
		t.Errorf("without the macro the variables are %s", got)
	}
}

// What is changed by hand uses nothing of the machine that the file does not, after
// a restart neither.
func TestChangesByHandHaveNoHoldOfTheMachine(t *testing.T) {
	d := newDoor(t)
	w := &world{t: t, origin: &testenv.Server{URL: d.URL}, home: t.TempDir()}
	w.project = storetest.Project{DSN: filepath.Join(w.home, "project.db")}.Open(t, store.Options{})
	made := filepath.Join(w.home, "made")
	program := "{exec: {command: [touch, " + made + "], token_name: X}}"
	macro := func(step string) string {
		return "{name: evil, steps: [" + step + ", {request: \"GET {{ORIGIN}}/a HTTP/1.1\"}]}"
	}
	plain := strings.ReplaceAll(fmt.Sprintf(doorRules, "0", "secret"), "{{ORIGIN}}", d.URL)
	put := func(want, text string) {
		t.Helper()
		if _, err := w.h.Put(text); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("put with %v, want %q", err, want)
		}
	}
	change := func(want, text string) {
		t.Helper()
		text = strings.ReplaceAll(text, "{{ORIGIN}}", d.URL)
		if _, err := w.h.Change(holdfast.Edit{Kind: "macro", Text: text}); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("changed with %v, want %q", err, want)
		}
	}
	t.Setenv("HOLDFAST_TEST_SECRET", "of-mine")
	w.start(plain)
	const only = "only a configuration file may "
	change(only+"run the program touch", macro(program))
	change(only+"read the environment variable HOLDFAST_TEST_SECRET", strings.Replace(macro("{request: \"GET {{ORIGIN}}/a HTTP/1.1\"}"), "name: evil,", "name: evil, inputs: {a: \"${env:HOLDFAST_TEST_SECRET}\"},", 1))
	put(only+"read the file /etc/passwd", strings.Replace(plain, "variables: {", "variables: {E: \"${file:/etc/passwd}\", ", 1))
	if len(w.h.File().Macros) != 1 {
		t.Error("something was changed")
	}
	w.stop()
	file := w.compile(plain)
	trusted := func(on bool) {
		t.Helper()
		var err error
		if w.h, err = holdfast.New(holdfast.Config{File: file, Home: w.home, Store: w.project, Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}}, TrustChanges: on}); err != nil {
			t.Fatal(err)
		}
	}
	trusted(true)
	change("", macro(program))
	w.h.Close()
	trusted(false)
	if len(w.h.File().Macros) != 1 {
		t.Error("a program that was kept is there without TrustChanges")
	}
	w.h.Close()
	trusted(true)
	if len(w.h.File().Macros) != 2 {
		t.Error("what was kept is gone")
	}
	w.h.Close()
	with := strings.Replace(plain, "macros:\n", "macros:\n  - "+strings.ReplaceAll(macro(program), "{{ORIGIN}}", d.URL)+"\n", 1)
	file = w.compile(with)
	trusted(false)
	defer w.h.Close()
	put("", strings.Replace(with, "name: evil", "name: other", 1)) // the very same program
	put(only+"run the program touch", strings.Replace(with, made, made+"2", 1))
}

// A variable that was set by hand is there after a reload and a restart, until the
// file says something else of it.
func TestVariablesByHandOutlastARestart(t *testing.T) {
	d := newDoor(t)
	w := &world{t: t, origin: &testenv.Server{URL: d.URL}, home: t.TempDir()}
	w.project = storetest.Project{DSN: filepath.Join(w.home, "project.db")}.Open(t, store.Options{})
	plain, other := fmt.Sprintf(doorRules, "0", "secret"), fmt.Sprintf(doorRules, "1", "secret")
	set := func(who, name string, value *string) {
		t.Helper()
		if _, failed := w.h.SetVariable(who, who == "", name, value); failed != nil {
			t.Error(failed)
		}
	}
	want := func(when, want string) {
		t.Helper()
		text := ""
		for _, v := range w.h.Engine().Globals() {
			if v.Name != "BASE" {
				text += v.Name + "=" + v.Value + " "
			}
		}
		own, _ := w.h.Engine().Variables("alice")
		for _, v := range own {
			if v.Name == "PASS" {
				text += "PASS=" + v.Value
			}
		}
		if text != want {
			t.Errorf("%s the variables are %q, want %q", when, text, want)
		}
	}
	w.start(plain)
	mine := "mine"
	set("", "SAYS", &mine)
	set("", "MORE", &mine)
	set("alice", "PASS", &mine)
	want("set", "MORE=mine SAYS=mine PASS=mine")
	if _, err := w.h.Reload(w.compile(plain)); err != nil {
		t.Fatal(err)
	}
	want("after a reload", "MORE=mine SAYS=mine PASS=mine")
	if code, by := w.get("/items"); code != 200 || d.count("/loginmine") != 1 {
		t.Errorf("answered with %d %s, by %v", code, by, d.logins)
	}
	w.stop()
	w.start(plain)
	want("after a restart", "MORE=mine SAYS=mine PASS=mine")
	set("alice", "PASS", nil)
	w.stop()
	w.start(plain)
	want("with one taken away", "MORE=mine SAYS=mine ")
	if _, err := w.h.Reload(w.compile(other)); err != nil {
		t.Fatal(err)
	}
	want("after the file has changed", "MORE=mine SAYS=1 ")
	w.stop()
	w.start(other)
	want("after another restart", "MORE=mine SAYS=1 ")
	set("alice", "PASS", nil) // and by who speaks where nobody is named
	if _, failed := w.h.SetVariable("", false, "PASS", &mine); failed != nil {
		t.Error(failed)
	}
	want("set for whom nobody named", "MORE=mine SAYS=1 PASS=mine")
	if _, err := w.h.Reload(w.compile(other)); err != nil {
		t.Fatal(err)
	}
	want("after a reload with that", "MORE=mine SAYS=1 PASS=mine")
	if _, failed := w.h.SetVariable("nobody", false, "A", &mine); failed == nil {
		t.Error("a variable of nobody was set")
	}
}

// A rule is switched while somebody else changes it: both changes hold.
func TestSwitchingARuleLosesNoOtherChange(t *testing.T) {
	d := newDoor(t)
	w := &world{t: t, origin: &testenv.Server{URL: d.URL}, home: t.TempDir()}
	w.start(fmt.Sprintf(doorRules, "0", "secret"))
	text := func(i int) string {
		return fmt.Sprintf("name: extra\nscope: {pattern: \"127.0.0.%d\", target: host}\nactions: [set_header: {name: X-Extra, value: yes, if_absent: add}]\n", 1+i)
	}
	if _, err := w.h.Change(holdfast.Edit{Kind: "rule", Text: text(0)}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := w.h.Change(holdfast.Edit{Kind: "rule", Name: "extra", Text: text(i)}); err != nil {
				t.Error(err)
			}
		})
		group.Go(func() {
			if _, err := w.h.SetRuleEnabled("extra", i%2 == 0); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		for _, r := range w.h.Rules() {
			if want := fmt.Sprintf("127.0.0.%d", 1+i); r.Name == "extra" && r.Scope.Pattern != want {
				t.Fatalf("after change %d the rule is for %s, want %s", i, r.Scope.Pattern, want)
			}
		}
	}
}
