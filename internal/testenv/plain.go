package testenv

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Requests that any live session may make, and those that know no sessions.

func (s *Server) home(w http.ResponseWriter, _ *http.Request) {
	writePage(w, http.StatusOK, "Shop", `<p><a href="/account">Account</a> <a href="/whoami">Who am I</a></p>`)
}

// sight is how the origin sees a request.
type sight struct {
	Identity string `json:"identity"`
	By       string `json:"by,omitempty"` // bearer or cookie
	Live     bool   `json:"live"`
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request) {
	credential, by := anyCredential(r)
	name, live := s.book.owner(credential)
	if !live {
		name = Anonymous
	}
	writeJSON(w, http.StatusOK, sight{name, by, live})
}

// asStatus answers dead sessions with a status.
func (s *Server) asStatus(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if found, v := s.judgeAny(w, r); v == alive {
			writeAlive(w, found)
		} else {
			writeText(w, status, "application/json; charset=utf-8", body)
		}
	}
}

func (s *Server) as302(w http.ResponseWriter, r *http.Request) {
	if found, v := s.judgeAny(w, r); v == alive {
		writeAlive(w, found)
	} else {
		writeRedirectToLogin(w)
	}
}

func (s *Server) asForm(w http.ResponseWriter, r *http.Request) {
	if found, v := s.judgeAny(w, r); v == alive {
		writeAlive(w, found)
	} else {
		s.writeLoginForm(w, cookieValue(r, cookieVisitor), "")
	}
}

// asList never tells that a session is dead: the list is empty then.
func (s *Server) asList(w http.ResponseWriter, r *http.Request) {
	text := "[]"
	if found, v := s.judgeAny(w, r); v == alive {
		text = `[{"id":1,"owner":"` + found.identity.Name + `"}]`
	}
	writeText(w, http.StatusOK, "application/json; charset=utf-8", text)
}

func writeAlive(w http.ResponseWriter, of *session) {
	writeJSON(w, http.StatusOK, sight{Identity: of.identity.Name, Live: true})
}

// late judges at once and answers when the gate opens.
func (s *Server) late(w http.ResponseWriter, r *http.Request) {
	found, v := s.judgeAny(w, r)
	if !s.pass(w, r, r.URL.Query().Get("gate")) {
		return
	}
	if v == alive {
		writeAlive(w, found)
		return
	}
	writeJSON(w, http.StatusUnauthorized, apiError{"unauthorized"})
}

func (s *Server) hold(w http.ResponseWriter, r *http.Request) {
	gate := r.URL.Query().Get("gate")
	if s.pass(w, r, gate) {
		writeText(w, http.StatusOK, "text/plain", "released "+gate)
	}
}

func (s *Server) forbidden(w http.ResponseWriter, r *http.Request) {
	credential, _ := anyCredential(r)
	s.book.forbid(credential)
	writeJSON(w, http.StatusForbidden, apiError{"forbidden"})
}

// echoed is a request as net/http shows it.
type echoed struct {
	Method string              `json:"method"`
	Target string              `json:"target"`
	Proto  string              `json:"proto"`
	Host   string              `json:"host"`
	Header map[string][]string `json:"header"`
	Body   written             `json:"body"`
}

func (s *Server) echo(w http.ResponseWriter, r *http.Request) {
	body, err := hashBody(r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, apiError{"body"})
		return
	}
	writeJSON(w, http.StatusOK, echoed{r.Method, r.RequestURI, r.Proto, r.Host, r.Header, body})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.URL.Query().Get("code"))
	if err != nil || code < 200 || code > 999 {
		writeJSON(w, http.StatusBadRequest, apiError{"code must be 200 to 999"})
		return
	}
	if code == http.StatusNoContent || code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	writeJSON(w, code, struct {
		Code int `json:"code"`
	}{code})
}

// big streams the letters of the alphabet over and over.
func (s *Server) big(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	if err != nil || size < 0 {
		writeJSON(w, http.StatusBadRequest, apiError{"size must be a number of bytes"})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.URL.Query().Get("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	if r.Method != http.MethodHead {
		_, _ = io.CopyN(w, &alphabet{}, size) // the client may have gone, which is its business
	}
}

// alphabet is an endless reader.
type alphabet struct{ at int }

func (a *alphabet) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a' + byte(a.at%26)
		a.at++
	}
	a.at %= 26
	return len(p), nil
}

func (s *Server) sink(w http.ResponseWriter, r *http.Request) {
	answer, err := hashBody(r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, apiError{"body"})
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// stream sends events; event i waits for gate NAME.i when there is a name.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	events, err := strconv.Atoi(r.URL.Query().Get("events"))
	if err != nil || events < 0 {
		writeJSON(w, http.StatusBadRequest, apiError{"events must be a number"})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	if out.Flush() != nil {
		return
	}
	gate := r.URL.Query().Get("gate")
	for i := 1; i <= events; i++ {
		if gate != "" && !s.pass(w, r, fmt.Sprintf("%s.%d", gate, i)) {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i); err != nil || out.Flush() != nil {
			return
		}
	}
}
