package browser_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/browser"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

func TestMain(m *testing.M) { leak.Main(m) }

// scene is a site, the proxy before it, and what logins brought.
type scene struct {
	t     *testing.T
	proxy string // host:port
	temp  string // where profiles are

	mu      sync.Mutex
	told    []string
	tokens  map[string]string
	cookies []string
}

func newScene(t *testing.T, site http.Handler) *scene {
	t.Helper()
	origin := httptest.NewServer(site)
	t.Cleanup(origin.Close)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", strings.TrimPrefix(origin.URL, "http://") // whatever host it is for
	}, ErrorLog: log.New(io.Discard, "", 0)})
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	s := &scene{t: t, proxy: strings.TrimPrefix(proxy.URL, "http://"), temp: t.TempDir(), tokens: make(map[string]string)}
	t.Setenv("TMPDIR", s.temp)
	return s
}

// login makes a login, and sees to it that nothing is left of the browser.
func (s *scene) login(ctx context.Context, r *browser.Runner, how *macro.Browser) error {
	s.t.Helper()
	if how.Timeout == 0 {
		how.Timeout = 5 * time.Minute
	}
	err := s.start(ctx, r, "", how)
	s.gone()
	return err
}

// start makes a login for an identity.
func (s *scene) start(ctx context.Context, r *browser.Runner, identity string, how *macro.Browser) error {
	return r.Login(ctx, s.of(identity, how))
}

// of is a login for an identity.
func (s *scene) of(identity string, how *macro.Browser) *browser.Login {
	return &browser.Login{Name: "test", Identity: identity, How: how, Proxy: s.proxy, URL: "http://shop.example/",
		Lookup: func(name string) (string, bool) { return "value of " + name, name != "NONE" },
		Put: func(token, value string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tokens[token] = value
		},
		PutCookie: func(c jar.Cookie) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cookies = append(s.cookies, fmt.Sprintf("%s=%s %s %v", c.Name, c.Value, c.Domain, c.HostOnly))
			return nil
		},
		Tell: func(format string, args ...any) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = append(s.told, fmt.Sprintf(format, args...))
		}}
}

// gone sees to it that nothing is left of browsers.
func (s *scene) gone() {
	s.t.Helper()
	if pids := s.browsers(); len(pids) > 0 {
		s.t.Errorf("processes %v are left", pids)
	}
	if left, _ := filepath.Glob(filepath.Join(s.temp, "chromedp*")); len(left) > 0 {
		s.t.Errorf("profiles are left: %v", left)
	}
}

// browsers are the processes of browsers that use the scene's proxy.
func (s *scene) browsers() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte("http://"+s.proxy)) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if status, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat")); err == nil && !bytes.Contains(status, []byte(") Z ")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func template(t *testing.T, text string) *rule.Template {
	t.Helper()
	tpl, err := rule.ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func page(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>a page</title>"+body)
	}
}

// kind is the failure of a login.
func kind(t *testing.T, err error) (macro.Kind, string) {
	t.Helper()
	var step *macro.StepError
	if !errors.As(err, &step) {
		t.Errorf("got %v, which is no *macro.StepError", err)
		return 0, ""
	}
	return step.Kind, err.Error()
}

// The provider is in a pop-up window, its form in a frame and a shadow root;
// the window closes, and the page that opened it takes the session.
func TestLoginInAPopUp(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/", page(`<button aria-disabled=true id=sso onclick="open('/provider', 'sso', 'width=400,height=400')">Log in</button>
		<script>setTimeout(() => sso.ariaDisabled = null, 50);
		onmessage = e => { document.cookie = "sid=" + e.data + "; path=/"; sessionStorage.setItem("csrf", "of the page") }</script>`))
	mux.Handle("/provider", page(`<iframe src=/frame width=300 height=300 style="margin: 40px"></iframe>`))
	mux.Handle("/frame", page(`<login-form></login-form><script>customElements.define("login-form", class extends HTMLElement {
		connectedCallback() {
			const root = this.attachShadow({mode: "open"});
			root.innerHTML = '<form><label>User: <input name=user></label><div contenteditable aria-label=Note>old</div></form>';
			root.querySelector("form").onsubmit = e => { e.preventDefault(); parent.opener.postMessage(root.querySelector("input").value.length, "*"); parent.close() };
		}})</script>`))
	s := newScene(t, mux)
	err := s.login(t.Context(), browser.New(browser.Config{}), &macro.Browser{
		Actions: []macro.BrowserAction{
			{Do: macro.BrowserClick, Selector: "text=Log in"},
			{Do: macro.BrowserWait, Mark: macro.BrowserMark{URL: template(t, "/provider")}},
			{Do: macro.BrowserFill, Selector: "label=Note", Value: template(t, "new")},
			{Do: macro.BrowserFill, Selector: "label=User", Value: template(t, "{{USER}}")},
			{Do: macro.BrowserPress, Selector: "[name=user]", Value: template(t, "Enter")},
		},
		Until: macro.BrowserMark{Cookie: "sid", Session: "csrf"},
		Take:  []macro.Stored{{Token: "CSRF", Key: "csrf", Session: true}},
	})
	if err != nil {
		t.Fatalf("%v; told:\n%s", err, strings.Join(s.told, "\n"))
	}
	if want := []string{"sid=13 shop.example true"}; !slices.Equal(s.cookies, want) || s.tokens["CSRF"] != "of the page" {
		t.Errorf("got cookies %q, tokens %q", s.cookies, s.tokens)
	}
	if told := strings.Join(s.told, "\n"); strings.Contains(told, "value of") || !strings.Contains(told, "action 4, fill label=User") {
		t.Errorf("told:\n%s", told)
	}
}

// ending is a context whose deadline the test lets come.
type ending struct {
	context.Context
	over chan struct{}
}

func (e *ending) Done() <-chan struct{} { return e.over }

func (e *ending) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// looks is how often a login must have looked for what does not come, for its
// time to be over: the first look may have been cut off.
const looks = 8

// Each login ends with a reason, in time, and leaves nothing. How much time that
// is depends on the machine, so it is over when the login has looked often enough.
func TestLoginsThatFail(t *testing.T) {
	times := make(map[string]*ending)
	for _, name := range []string{"hidden", "hang", "nobody"} {
		times[name] = &ending{t.Context(), make(chan struct{})}
	}
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/", page(`<input id=user><button hidden id=hidden>x</button><script>
		let looks = 0;
		hidden.getClientRects = function () {
			if (++looks == `+fmt.Sprint(looks)+`) fetch("/looked");
			return HTMLElement.prototype.getClientRects.call(this);
		}</script>`))
	mux.HandleFunc("/looked", func(http.ResponseWriter, *http.Request) { close(times["hidden"].over) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		close(times["hang"].over)
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/later", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "later", 503) })
	s := newScene(t, mux)
	defer close(hang)
	asked := 0
	has := func(string) bool {
		if asked++; asked == looks {
			close(times["nobody"].over)
		}
		return true
	}
	r := browser.New(browser.Config{AtOnce: 4})
	click := func(selector string) []macro.BrowserAction {
		return []macro.BrowserAction{{Do: macro.BrowserClick, Selector: selector}}
	}
	var group sync.WaitGroup
	for _, tt := range []struct {
		name string
		how  *macro.Browser
		ends string // which of times
		kind macro.Kind
		says string
	}{
		{"a button that is hidden", &macro.Browser{Actions: click("#hidden")}, "hidden", macro.Unexpected, `action 1, click #hidden, got #hidden is not visible after 5m0s; the page is http://shop.example/ ("a page")`},
		{"a page that never comes", &macro.Browser{URL: template(t, "http://shop.example/hang?secret"), Actions: click("a")}, "hang", macro.Transport, "http://shop.example/hang, got no answer in time"},
		{"a page that says later", &macro.Browser{URL: template(t, "http://shop.example/later"), Actions: click("a")}, "", macro.Transient, "status 503"},
		{"a variable without a value", &macro.Browser{Actions: []macro.BrowserAction{{Do: macro.BrowserFill, Selector: "#user", Value: template(t, "{{NONE}}")}}}, "", macro.MissingVariable, "NONE"},
		{"nobody after the credentials", &macro.Browser{Actions: []macro.BrowserAction{{Do: macro.BrowserFill, Selector: "#user", Value: template(t, "{{USER}}")}},
			Until: macro.BrowserMark{Token: "SEEN", Cookie: "sid"}}, "nobody", macro.Rejected, "no cookie sid after 5m0s"},
		{"a selector that is none", &macro.Browser{Actions: click("a[")}, "", macro.Unexpected, "a selector that is none"},
	} {
		if tt.how.Timeout == 0 {
			tt.how.Timeout = 5 * time.Minute
		}
		ctx := t.Context()
		if tt.ends != "" {
			ctx = times[tt.ends]
		}
		l := s.of(tt.name, tt.how)
		l.Has = has
		group.Go(func() {
			got, text := kind(t, r.Login(ctx, l))
			if got != tt.kind || !strings.Contains(text, tt.says) || strings.Contains(text, "secret") || strings.Contains(text, "value of") {
				t.Errorf("%s: got %v: %s", tt.name, got, text)
			}
		})
	}
	group.Go(func() { // which wait is the one that ends depends on the machine
		if _, text := kind(t, s.start(t.Context(), r, "no time", &macro.Browser{Actions: click("#hidden"), Timeout: time.Millisecond})); !strings.Contains(text, "no answer") {
			t.Errorf("with no time: %s", text)
		}
	})
	group.Wait()
	s.gone()
}

// A browser that is killed, and one that is not wanted any more.
func TestABrowserThatEnds(t *testing.T) {
	opened := make(chan struct{}, 1)
	s := newScene(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page("nothing")(w, r)
		if r.URL.Path == "/" {
			opened <- struct{}{}
		}
	}))
	r := browser.New(browser.Config{AtOnce: 1})
	how := &macro.Browser{Actions: []macro.BrowserAction{{Do: macro.BrowserClick, Selector: "#never"}}, Timeout: 5 * time.Minute}
	done, failed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-opened:
		case <-failed: // to open it
		}
		for _, pid := range s.browsers() {
			if p, err := os.FindProcess(pid); err == nil {
				p.Kill()
			}
		}
	}()
	if got, text := kind(t, s.login(t.Context(), r, how)); got != macro.Unexpected || !strings.Contains(text, "the end of the browser") {
		t.Errorf("killed: %v %s", got, text)
	}
	close(failed)
	<-done
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-opened:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := s.login(ctx, r, how); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	cancel()
	<-stopped
}

// There is no browser, or no display for its window.
func TestNoBrowserIsSaid(t *testing.T) {
	s := newScene(t, page(""))
	got, text := kind(t, s.login(t.Context(), browser.New(browser.Config{Path: "/nowhere/chromium"}), &macro.Browser{}))
	if got != macro.Malformed || !strings.Contains(text, "there is no browser at /nowhere/chromium; correct browser.path") {
		t.Errorf("got %v: %s", got, text)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := browser.Find(""); err == nil || !strings.Contains(err.Error(), "install Chromium") {
		t.Errorf("got %v", err)
	}
}

func TestNoDisplayIsSaid(t *testing.T) {
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	s := newScene(t, page(""))
	got, text := kind(t, s.login(t.Context(), browser.New(browser.Config{}), &macro.Browser{Visible: true}))
	if got != macro.Malformed || !strings.Contains(text, "no display") {
		t.Errorf("got %v: %s", got, text)
	}
}
