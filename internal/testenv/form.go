package testenv

import (
	"html"
	"net/http"
	"time"
)

// The shape of a classic web application: an HTML form with a hidden CSRF
// token bound to a cookie that exists before the login, and a session cookie
// after it. A dead session is sent to the form by 302 and loses its cookie.

const (
	cookieSession = "sid"
	cookieVisitor = "visitor"
)

// setSession sets the session cookie.
func (s *Server) setSession(w http.ResponseWriter, value string) {
	c := http.Cookie{Name: cookieSession, Value: value, Path: "/", HttpOnly: true, Secure: s.origin.TLS, SameSite: http.SameSiteLaxMode}
	if !s.origin.HideExpiry {
		c.MaxAge = wholeSeconds(s.cookieTTL())
	}
	http.SetCookie(w, &c)
}

func (s *Server) cookieTTL() time.Duration {
	if s.origin.CookieTTL > 0 {
		return s.origin.CookieTTL
	}
	return time.Hour
}

func (s *Server) formLogin(w http.ResponseWriter, r *http.Request) {
	visitor := cookieValue(r, cookieVisitor)
	if r.Method != http.MethodPost {
		s.writeLoginForm(w, visitor, "")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if !s.book.useCSRF(nil, visitor, s.postedCSRF(r)) {
		writeCSRFError(w)
		return
	}
	who := s.book.login(r.PostFormValue("username"), r.PostFormValue("password"))
	if who == nil {
		s.writeLoginForm(w, visitor, "Wrong name or password")
		return
	}
	opened := s.book.open(who, shapeForm, s.origin.Clock().Add(s.cookieTTL()))
	s.setSession(w, s.book.roll(opened))
	http.SetCookie(w, &http.Cookie{Name: cookieVisitor, Path: "/", MaxAge: -1})
	w.Header().Set("Location", "/account")
	writePage(w, http.StatusFound, "Signed in", `<p><a href="/account">Go on</a></p>`)
}

// writeLoginForm shows the form, with a cookie for visitors who have none.
func (s *Server) writeLoginForm(w http.ResponseWriter, visitor, complaint string) {
	if visitor == "" {
		visitor = secret()
		http.SetCookie(w, &http.Cookie{Name: cookieVisitor, Value: visitor, Path: "/", HttpOnly: true, Secure: s.origin.TLS})
	}
	if complaint != "" {
		complaint = `<p class="error">` + complaint + "</p>\n"
	}
	writePage(w, http.StatusOK, "Sign in", complaint+`<form method="post" action="/login">
`+s.hiddenField(s.book.newCSRF(nil, visitor))+`
<label>Name <input type="text" name="username"></label>
<label>Password <input type="password" name="password"></label>
<button>Sign in</button>
</form>`)
}

func (s *Server) formStart(w http.ResponseWriter, r *http.Request) {
	found, ok := s.formAuth(w, r)
	if !ok {
		return
	}
	writePage(w, http.StatusOK, "Account", "<p>Signed in as <b>"+html.EscapeString(found.identity.Name)+`</b></p>
<form method="post" action="/account/email">
`+s.hiddenField(s.book.newCSRF(found, ""))+`
<label>Email <input type="email" name="email"></label>
<button>Save</button>
</form>
<p><a href="/logout">Sign out</a></p>`)
}

// formAuth lets live sessions through and sends the others to the form.
func (s *Server) formAuth(w http.ResponseWriter, r *http.Request) (*session, bool) {
	credential := cookieValue(r, cookieSession)
	found, v := s.book.judge(credential, useCookie)
	if v != alive {
		if credential != "" {
			http.SetCookie(w, &http.Cookie{Name: cookieSession, Path: "/", MaxAge: -1})
		}
		writeRedirectToLogin(w)
		return nil, false
	}
	s.rollCookie(w, r, found)
	return found, true
}

// formEmail is a write that needs the session and a CSRF token of it. The
// token is a field of the form or an X-CSRF-Token header field.
func (s *Server) formEmail(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	csrf := s.postedCSRF(r)
	s.book.sawCSRF(csrf)
	found, ok := s.formAuth(w, r)
	if !ok {
		return
	}
	if !s.book.useCSRF(found, "", csrf) {
		writeCSRFError(w)
		return
	}
	id := idempotencyID(r)
	if id == "" {
		id = r.PostFormValue("id")
	}
	if _, ok := s.book.write(found.identity, id); !ok {
		writeJSON(w, http.StatusInsufficientStorage, apiError{"too_many_ids"})
		return
	}
	writePage(w, http.StatusOK, "Saved", "<p>Saved <b>"+html.EscapeString(r.PostFormValue("email"))+"</b> for "+html.EscapeString(found.identity.Name)+"</p>")
}

func (s *Server) formLogout(w http.ResponseWriter, r *http.Request) {
	s.book.logout(cookieValue(r, cookieSession))
	http.SetCookie(w, &http.Cookie{Name: cookieSession, Path: "/", MaxAge: -1})
	writeRedirectToLogin(w)
}

func (s *Server) postedCSRF(r *http.Request) string {
	if text := r.Header.Get("X-CSRF-Token"); text != "" {
		return text
	}
	return r.PostFormValue(s.csrfField())
}

func (s *Server) csrfField() string {
	if s.origin.CSRFField != "" {
		return s.origin.CSRFField
	}
	return "_csrf"
}

func (s *Server) hiddenField(csrf string) string {
	return `<input type="hidden" name="` + s.csrfField() + `" value="` + html.EscapeString(csrf) + `">`
}

func writeCSRFError(w http.ResponseWriter) {
	writePage(w, http.StatusForbidden, "Forbidden", "<p>Invalid CSRF token</p>")
}

func writeRedirectToLogin(w http.ResponseWriter) {
	w.Header().Set("Location", "/login")
	writePage(w, http.StatusFound, "Sign in", `<p><a href="/login">Sign in</a></p>`)
}

func writePage(w http.ResponseWriter, status int, title, body string) {
	writeText(w, status, "text/html; charset=utf-8", "<!doctype html>\n<html>\n<head><title>"+title+"</title></head>\n<body>\n"+body+"\n</body>\n</html>\n")
}
