package testenv

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxBody is how much of a posted body is read.
const maxBody = 64 << 20

// A route handles one path.
type route struct {
	methods string // separated by spaces
	handle  http.HandlerFunc
}

// table lists every path. The package documentation describes them.
func (s *Server) table() map[string]route {
	return map[string]route{
		"/":               {"GET", s.home},
		"/auth/login":     {"POST", s.dummyLogin},
		"/user/login":     {"POST", s.dummyLogin},
		"/users/login":    {"POST", s.dummyLogin},
		"/auth/me":        {"GET", s.dummyMe},
		"/user/me":        {"GET", s.dummyMe},
		"/auth/products":  {"GET", s.dummyProducts},
		"/auth/refresh":   {"POST", s.dummyRefresh},
		"/auth/logout":    {"POST", s.dummyLogout},
		"/api/login":      {"POST", s.apiLogin},
		"/api/refresh":    {"POST", s.apiRefresh},
		"/api/items":      {"GET POST", s.apiGoods},
		"/oauth/token":    {"POST", s.oauthToken},
		"/oauth/userinfo": {"GET POST", s.oauthResource},
		"/login":          {"GET POST", s.formLogin},
		"/account":        {"GET", s.formStart},
		"/account/email":  {"POST", s.formEmail},
		"/logout":         {"GET POST", s.formLogout},
		"/as/401":         {"GET POST", s.asStatus(http.StatusUnauthorized, `{"error":"unauthorized"}`)},
		"/as/403":         {"GET POST", s.asStatus(http.StatusForbidden, "")},
		"/as/422":         {"GET POST", s.asStatus(http.StatusUnprocessableEntity, `{"error":"session"}`)},
		"/as/302":         {"GET POST", s.as302},
		"/as/form":        {"GET POST", s.asForm},
		"/as/list":        {"GET POST", s.asList},
		"/late":           {"GET POST", s.late},
		"/whoami":         {"GET POST", s.whoami},
		"/echo":           {"", s.echo},
		"/forbidden":      {"", s.forbidden},
		"/status":         {"", s.status},
		"/big":            {"GET", s.big},
		"/sink":           {"POST PUT", s.sink},
		"/stream":         {"GET", s.stream},
		"/hold":           {"GET POST", s.hold},
		"/ws":             {"GET", s.webSocket},
		"/shelf/file":     {"GET", s.guard(s.shelfFile)},
		"/shelf/moved":    {"", s.guard(s.shelfMoved)},
		"/shelf/drop":     {"POST PUT", s.guard(s.shelfDrop)},
	}
}

// serve handles every request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	credential, _ := anyCredential(r)
	s.book.request(credential)
	if s.origin.Observe != nil {
		s.origin.Observe(r)
	}
	exit, ok := s.book.enter(credential)
	if !ok {
		writeJSON(w, http.StatusConflict, apiError{"session_in_use"})
		return
	}
	defer exit() // net/http sends the end of a short answer after it
	w, end := s.packed(w, r)
	defer end()
	before, after := s.gates.at(r.URL.Path)
	if before != "" && !s.pass(w, r, before) {
		return
	}
	answer := w
	var kept *heldAnswer
	if after != "" {
		kept = &heldAnswer{header: http.Header{}, status: http.StatusOK}
		answer = kept
	}
	s.dispatch(answer, r)
	if kept != nil && s.pass(w, r, after) {
		kept.send(w)
	}
}

// pass waits at a gate. When it will not open any more, the connection ends
// without an answer.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, gate string) bool {
	if s.gates.wait(r.Context(), gate) != nil {
		hangUp(w)
		return false
	}
	return true
}

// dispatch finds the handler, unless FailNext has other plans.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	if status, ok := s.book.failure(r.URL.Path); ok {
		if status == 0 {
			hangUp(w)
			return
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		writeJSON(w, status, message{"trouble"})
		return
	}
	to, ok := s.find(r.URL.Path)
	switch {
	case !ok:
		writeJSON(w, http.StatusNotFound, apiError{"not_found"})
	case !allows(to.methods, r.Method) && !(asksByStream(r) && allows(to.methods, http.MethodGet)):
		w.Header().Set("Allow", strings.ReplaceAll(to.methods, " ", ", "))
		writeJSON(w, http.StatusMethodNotAllowed, apiError{"method_not_allowed"})
	default:
		to.handle(w, r)
	}
}

func allows(methods, method string) bool {
	if methods == "" {
		return true
	}
	for one := range strings.FieldsSeq(methods) {
		if one == method || one == http.MethodGet && method == http.MethodHead {
			return true
		}
	}
	return false
}

// hangUp ends the connection without an answer. HTTP/2 knows no such thing;
// the stream is answered with 500 then.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	conn.Close()
}

// heldAnswer keeps an answer until it may be sent.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header         { return h.header }
func (h *heldAnswer) WriteHeader(status int)      { h.status = status }
func (h *heldAnswer) Write(p []byte) (int, error) { return h.body.Write(p) }

func (h *heldAnswer) send(w http.ResponseWriter) {
	for name, values := range h.header {
		w.Header()[name] = values
	}
	w.WriteHeader(h.status)
	_, _ = w.Write(h.body.Bytes()) // the client may have gone, which is its business
}

// message and apiError are the two ways in which the origin explains itself.
type message struct {
	Message string `json:"message"`
}

type apiError struct {
	Error string `json:"error"`
}

// writeJSON answers with a JSON text of known length and no newline.
func writeJSON(w http.ResponseWriter, status int, value any) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic("internal error: answer: " + err.Error())
	}
	writeText(w, status, "application/json; charset=utf-8", strings.TrimSuffix(text.String(), "\n"))
}

func writeText(w http.ResponseWriter, status int, kind, text string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client may have gone, which is its business
}

// readJSON reads a posted object. An unreadable one counts as empty, so the
// handler complains of what it misses.
func readJSON(r *http.Request, into any) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil {
		_ = json.Unmarshal(raw, into)
	}
}

// anyCredential is what a request carries, and where: by bearer, by sid or by
// accessToken cookie, in this order.
func anyCredential(r *http.Request) (credential, by string) {
	if text := bearer(r); text != "" {
		return text, "bearer"
	}
	for _, name := range []string{cookieSession, cookieAccess} {
		if text := cookieValue(r, name); text != "" {
			return text, "cookie"
		}
	}
	return "", ""
}

// bearer is the Authorization field without the scheme Bearer, in any case,
// if that stands before it. Applications exist that want none.
func bearer(r *http.Request) string {
	text := r.Header.Get("Authorization")
	if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	return text
}

func cookieValue(r *http.Request, name string) string {
	if c, err := r.Cookie(name); err == nil {
		return c.Value
	}
	return ""
}

// judgeAny decides a request that any live session may make, and rolls the
// cookie of a live one where the origin does so.
func (s *Server) judgeAny(w http.ResponseWriter, r *http.Request) (*session, verdict) {
	credential, _ := anyCredential(r)
	found, v := s.book.judge(credential, useAccess, useCookie)
	if v == alive {
		s.rollCookie(w, r, found)
	}
	return found, v
}

// rollCookie renews the session's cookie, if that is how it came.
func (s *Server) rollCookie(w http.ResponseWriter, r *http.Request, of *session) {
	if s.origin.RollCookie && of.shape == shapeForm && bearer(r) == "" {
		s.setSession(w, s.book.roll(of))
	}
}
