package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
)

// A Portal is an application with many logins, for tools that find out how a
// login works. Whatever it hands out is good for one use, so that a recorded
// value never works again. Everybody is alice with the password wonderland.
//
//	/meta      a page whose meta element has the token; JSON with it in a field X-CSRF-Token
//	/script    a page whose script has it as a variable, escaped; a form
//	/double    a cookie that a field of the request repeats, decoded
//	/api       JSON: a nonce, then a login that answers with a token; /api/me wants it
//	/sso       a redirect to another origin, its login page, and back with a code and a state
//	/short     a form whose challenge is two characters long
//	/computed  a form whose proof a script computes from a seed: nobody can derive it
//
// The forms are sent to the same path; what logs in sets the cookie sid and
// leads to /home, which anybody with that cookie sees. /noise/… is what pages
// have around them.
type Portal struct{}

// PortalServer is a running Portal. Its methods may be called by any goroutine;
// Close is the last.
type PortalServer struct {
	URL string // of the application: https://127.0.0.1:port
	SSO string // of the other origin: https://localhost:port

	authority *ca.Authority
	servers   []*http.Server
	served    sync.WaitGroup

	mu     sync.Mutex
	good   map[string]string // what was handed out and not used yet, by value: what for
	logins map[string]int    // by path
	count  int
}

// The one who can log in at a Portal.
const (
	PortalUser     = "alice"
	PortalPassword = "wonderland"
)

// Start listens on two loopback ports and serves until Close.
func (Portal) Start() (*PortalServer, error) {
	authority, err := ca.New(time.Now)
	if err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	p := &PortalServer{authority: authority, good: make(map[string]string), logins: make(map[string]int)}
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	sso, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		app.Close()
		return nil, fmt.Errorf("portal: %w", err)
	}
	_, port, _ := net.SplitHostPort(sso.Addr().String())
	p.URL, p.SSO = "https://"+app.Addr().String(), "https://localhost:"+port
	p.serve(app, p.app())
	p.serve(sso, p.provider())
	return p, nil
}

func (p *PortalServer) serve(listener net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{GetCertificate: certificates(p.authority)}}
	p.servers = append(p.servers, s)
	p.served.Go(func() { _ = s.ServeTLS(listener, "", "") }) // always http.ErrServerClosed
}

// Close ends both servers.
func (p *PortalServer) Close() {
	for _, s := range p.servers {
		_ = s.Close() // listeners' errors are of no interest: they are closed
	}
	p.served.Wait()
}

// CAPEM is the certificate that clients have to trust.
func (p *PortalServer) CAPEM() []byte { return p.authority.RootPEM() }

// Pool holds what CAPEM holds.
func (p *PortalServer) Pool() *x509.CertPool { return p.authority.Pool() }

// EndSessions has every session that there is be over.
func (p *PortalServer) EndSessions() {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.good, func(_, what string) bool { return what == "session" })
}

// Logins says how many logins at a path succeeded.
func (p *PortalServer) Logins(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logins[path]
}

// give hands out a value for one use.
func (p *PortalServer) give(value, what string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.good[value] = what
	return value
}

// take uses a value up; false: it never was good for that, or was used.
func (p *PortalServer) take(value, what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.good[value] != what {
		return false
	}
	delete(p.good, value)
	return true
}

func (p *PortalServer) holds(value, what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good[value] == what
}

func (p *PortalServer) app() http.Handler {
	mux := http.NewServeMux()
	pair := func(path string, page, login http.HandlerFunc) {
		mux.HandleFunc("GET "+path, page)
		mux.HandleFunc("POST "+path, login)
	}
	pair("/meta", p.metaPage, p.metaLogin)
	pair("/script", p.scriptPage, p.formLogin("script", "token"))
	pair("/double", p.doublePage, p.doubleLogin)
	pair("/short", p.shortPage, p.formLogin("short", "answer"))
	pair("/computed", p.computedPage, p.computedLogin)
	mux.HandleFunc("GET /api/nonce", p.nonce)
	mux.HandleFunc("POST /api/login", p.apiLogin)
	mux.HandleFunc("GET /api/me", p.apiMe)
	mux.HandleFunc("GET /sso", p.ssoStart)
	mux.HandleFunc("GET /sso/callback", p.ssoCallback)
	mux.HandleFunc("GET /home", p.home)
	mux.HandleFunc("GET /noise/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".js") {
			writeText(w, http.StatusOK, "text/javascript", "console.log('noise')")
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"noise": secret()})
	})
	return mux
}

func (p *PortalServer) home(w http.ResponseWriter, r *http.Request) {
	if !p.holds(cookieValue(r, "sid"), "session") {
		w.Header().Set("Location", "/script")
		writePage(w, http.StatusFound, "Sign in", "")
		return
	}
	writePage(w, http.StatusOK, "Home", "<p>Hello, alice</p>")
}

// signIn begins a session, or refuses.
func (p *PortalServer) signIn(w http.ResponseWriter, path, user, password string, ok bool) bool {
	if !ok || user != PortalUser || password != PortalPassword {
		writePage(w, http.StatusForbidden, "Forbidden", "<p>No</p>")
		return false
	}
	p.mu.Lock()
	p.logins[path]++
	p.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: "sid", Value: p.give(secret(), "session"), Path: "/", HttpOnly: true, Secure: true})
	return true
}

const portalForm = `<form method="post"><input type="text" name="who"><input type="password" name="word"><button>Go</button></form>`

func (p *PortalServer) metaPage(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "text/html", `<!doctype html><html><head><meta content="`+p.give(secret(), "meta")+`" name="csrf-token"></head><body>`+portalForm+`</body></html>`)
}

func (p *PortalServer) metaLogin(w http.ResponseWriter, r *http.Request) {
	var in struct{ Username, Password string }
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in)
	if p.signIn(w, "/meta", in.Username, in.Password, err == nil && p.take(r.Header.Get("X-CSRF-Token"), "meta")) {
		w.WriteHeader(http.StatusNoContent)
	}
}

func (p *PortalServer) scriptPage(w http.ResponseWriter, _ *http.Request) {
	token := p.give("a/b+"+secret()+"=", "script")
	writePage(w, http.StatusOK, "Sign in", `<script src="/noise/app.js"></script><script>
window.config = {lang: "en", csrfToken : "`+strings.ReplaceAll(strings.ReplaceAll(token, "/", `\/`), "+", `\u002b`)+`"};
</script>`+portalForm)
}

func (p *PortalServer) formLogin(what, field string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if p.signIn(w, "/"+what, r.PostFormValue("who"), r.PostFormValue("word"), p.take(r.PostFormValue(field), what)) {
			w.Header().Set("Location", "/home")
			w.WriteHeader(http.StatusFound)
		}
	}
}

func (p *PortalServer) doublePage(w http.ResponseWriter, _ *http.Request) {
	token := p.give("x/"+secret()+"==", "double")
	http.SetCookie(w, &http.Cookie{Name: "XSRF-TOKEN", Value: url.QueryEscape(token), Path: "/", Secure: true})
	writePage(w, http.StatusOK, "Sign in", portalForm)
}

func (p *PortalServer) doubleLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	token := r.Header.Get("X-XSRF-TOKEN")
	if p.signIn(w, "/double", r.PostFormValue("who"), r.PostFormValue("word"), cookieValue(r, "XSRF-TOKEN") == url.QueryEscape(token) && p.take(token, "double")) {
		w.WriteHeader(http.StatusNoContent)
	}
}

// shortPage hands out one of a few challenges, another than the last time.
func (p *PortalServer) shortPage(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	p.count++
	challenge := string(rune('a'+p.count%26)) + string(rune('a'+p.count/26%26))
	p.mu.Unlock()
	writePage(w, http.StatusOK, "Sign in", `<p id="challenge" data-word="`+p.give(challenge, "short")+`">Type it</p>`+portalForm)
}

func (p *PortalServer) computedPage(w http.ResponseWriter, _ *http.Request) {
	writePage(w, http.StatusOK, "Sign in", `<script>var proof = "`+p.give(secret(), "computed")+`";</script>`+portalForm)
}

func (p *PortalServer) computedLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if p.signIn(w, "/computed", r.PostFormValue("who"), r.PostFormValue("word"), p.take(Reverse(r.PostFormValue("proof")), "computed")) {
		w.Header().Set("Location", "/home")
		w.WriteHeader(http.StatusFound)
	}
}

// Reverse is what the script of /computed does.
func Reverse(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

func (p *PortalServer) nonce(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"data": map[string]any{"challenge": []string{"none", p.give(secret(), "nonce")}}})
}

func (p *PortalServer) apiLogin(w http.ResponseWriter, r *http.Request) {
	var in struct{ User, Password, Nonce string }
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in)
	if err != nil || in.User != PortalUser || in.Password != PortalPassword || !p.take(in.Nonce, "nonce") {
		writeJSON(w, http.StatusUnauthorized, apiError{"invalid"})
		return
	}
	p.mu.Lock()
	p.logins["/api"]++
	p.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"user": PortalUser, "auth": map[string]any{"accessToken": p.give(secret(), "access"), "expires": 3600}})
}

func (p *PortalServer) apiMe(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !p.holds(token, "access") {
		writeJSON(w, http.StatusUnauthorized, apiError{"unauthorized"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"name": PortalUser})
}

func (p *PortalServer) ssoStart(w http.ResponseWriter, _ *http.Request) {
	state := p.give(secret(), "state")
	http.SetCookie(w, &http.Cookie{Name: "sso_state", Value: state, Path: "/sso", Secure: true})
	w.Header().Set("Location", p.SSO+"/authorize?client_id=portal&response_type=code&redirect_uri="+url.QueryEscape(p.URL+"/sso/callback")+"&state="+state)
	w.WriteHeader(http.StatusFound)
}

func (p *PortalServer) ssoCallback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ok := cookieValue(r, "sso_state") == q.Get("state") && p.take(q.Get("state"), "state") && p.take(q.Get("code"), "code")
	if p.signIn(w, "/sso", PortalUser, PortalPassword, ok) {
		w.Header().Set("Location", "/home")
		w.WriteHeader(http.StatusFound)
	}
}

// provider is the other origin.
func (p *PortalServer) provider() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("redirect_uri") != p.URL+"/sso/callback" {
			writePage(w, http.StatusBadRequest, "Bad", "")
			return
		}
		visit := p.give(secret(), "visit")
		http.SetCookie(w, &http.Cookie{Name: "visit", Value: visit, Path: "/", Secure: true})
		action := "/signin?execution=" + p.give("e1s"+secret()[:8], "execution "+visit) + "&state=" + url.QueryEscape(q.Get("state"))
		writePage(w, http.StatusOK, "Sign in", `<form method="post" action="`+html.EscapeString(action)+`"><input type="hidden" name="lt" value="`+p.give("LT-"+secret(), "lt")+
			`"><input name="email"><input type="password" name="secret_word"><button>Go</button></form>`)
	})
	mux.HandleFunc("POST /signin", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		visit := cookieValue(r, "visit")
		if !p.take(r.URL.Query().Get("execution"), "execution "+visit) || !p.take(visit, "visit") || !p.take(r.PostFormValue("lt"), "lt") ||
			r.PostFormValue("email") != PortalUser || r.PostFormValue("secret_word") != PortalPassword {
			writePage(w, http.StatusForbidden, "Forbidden", "<p>No</p>")
			return
		}
		w.Header().Set("Location", p.URL+"/sso/callback?code="+p.give(secret(), "code")+"&state="+url.QueryEscape(r.URL.Query().Get("state")))
		w.WriteHeader(http.StatusFound)
	})
	return mux
}
