package testenv

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
)

// Provider is an OAuth 2 provider that verifies what it is sent: authorization
// codes with PKCE (RFC 7636) for the confidential client web/s3cret behind a
// login form with a cookie, device codes (RFC 8628) for the client tv, and
// client credentials. /me says whose a token is.
type Provider struct {
	*httptest.Server
	accounts map[string]string

	mu      sync.Mutex
	pending map[string]url.Values // interactions by id: what /authorize was asked
	codes   map[string]url.Values // by code, with user
	devices map[string]*device    // by device code
	tokens  map[string]string     // whose
	grants  int
}

type device struct {
	user  string // the code that a person enters
	whose string // "" until a person has approved
}

// NewProvider starts one on a loopback port; Close it.
func NewProvider(accounts map[string]string) *Provider {
	p := &Provider{accounts: accounts, pending: make(map[string]url.Values), codes: make(map[string]url.Values),
		devices: make(map[string]*device), tokens: make(map[string]string)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("GET /interaction/{id}", p.form)
	mux.HandleFunc("POST /interaction/{id}", p.login)
	mux.HandleFunc("GET /resume/{id}", p.resume)
	mux.HandleFunc("POST /device", p.device)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /me", p.me)
	p.Server = httptest.NewServer(mux)
	return p
}

// Grants is how often tokens were given out.
func (p *Provider) Grants() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grants
}

// Approve is a person who enters a user code.
func (p *Provider) Approve(userCode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		if d.user == userCode {
			d.whose = "someone with a telephone"
		}
	}
}

func drawn() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("response_type") != "code" || q.Get("client_id") != "web" || q.Get("code_challenge_method") != "S256" ||
		len(q.Get("code_challenge")) != 43 || q.Get("state") == "" || q.Get("nonce") == "" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	id := drawn()
	p.mu.Lock()
	p.pending[id] = q
	p.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: "interaction", Value: id, Path: "/", HttpOnly: true})
	http.Redirect(w, r, "/interaction/"+id, http.StatusSeeOther)
}

// pendingOf is the interaction that both the path and the cookie name.
func (p *Provider) pendingOf(r *http.Request) (id string, q url.Values) {
	id = r.PathValue("id")
	if c, err := r.Cookie("interaction"); err != nil || c.Value != id {
		return id, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return id, p.pending[id]
}

func (p *Provider) form(w http.ResponseWriter, r *http.Request) {
	id, q := p.pendingOf(r)
	if q == nil {
		http.Error(w, "no interaction", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprintf(w, `<form method=post action="/interaction/%s"><input name=user><input name=password type=password></form>`, id)
}

func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	id, q := p.pendingOf(r)
	user := r.PostFormValue("user")
	if want, known := p.accounts[user]; q == nil || !known || want != r.PostFormValue("password") {
		http.Error(w, "wrong name or password", http.StatusForbidden)
		return
	}
	p.mu.Lock()
	q.Set("user", user)
	p.mu.Unlock()
	http.Redirect(w, r, "/resume/"+id, http.StatusSeeOther)
}

func (p *Provider) resume(w http.ResponseWriter, r *http.Request) {
	id, q := p.pendingOf(r)
	if q == nil || q.Get("user") == "" {
		http.Error(w, "no interaction", http.StatusBadRequest)
		return
	}
	code := drawn()
	p.mu.Lock()
	delete(p.pending, id)
	p.codes[code] = q
	p.mu.Unlock()
	http.Redirect(w, r, q.Get("redirect_uri")+"?code="+code+"&state="+url.QueryEscape(q.Get("state")), http.StatusSeeOther)
}

func (p *Provider) device(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("client_id") != "tv" {
		writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_client", ""})
		return
	}
	code, user := drawn(), drawn()[:8]
	p.mu.Lock()
	p.devices[code] = &device{user: user}
	p.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"device_code": code, "user_code": user, "verification_uri": p.URL + "/activate", "expires_in": 600})
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, basic := r.BasicAuth()
	confidential := basic && id == "web" && secret == "s3cret"
	whose, problem := "", "unsupported_grant_type"
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		q := p.codes[r.PostFormValue("code")]
		delete(p.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if problem = "invalid_grant"; q != nil && confidential && q.Get("redirect_uri") == r.PostFormValue("redirect_uri") &&
			q.Get("code_challenge") == base64.RawURLEncoding.EncodeToString(sum[:]) {
			whose = q.Get("user")
		}
	case "client_credentials":
		if problem = "invalid_client"; confidential {
			whose = id
		}
	case "urn:ietf:params:oauth:grant-type:device_code":
		d := p.devices[r.PostFormValue("device_code")]
		if problem = "invalid_grant"; d != nil && r.PostFormValue("client_id") == "tv" {
			problem, whose = "authorization_pending", d.whose
		}
	}
	if whose == "" {
		writeJSON(w, http.StatusBadRequest, oauthError{problem, ""})
		return
	}
	token := drawn()
	p.tokens[token] = whose
	p.grants++
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

func (p *Provider) me(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	field := r.Header.Get("Authorization")
	if len(field) < 7 || p.tokens[field[7:]] == "" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, p.tokens[field[7:]])
}
