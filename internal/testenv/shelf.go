package testenv

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What any live session may have, in the forms that clients differ in: pieces
// of a file, redirects, uploads, and whatever a test puts below /guarded/. A
// dead session gets 401 before the body of its request has been read.

// guardedPrefix is where Origin.Guarded answers.
const guardedPrefix = "/guarded/"

// maxShelf is the size of the largest file, which is made in memory.
const maxShelf = 16 << 20

// find is the handler of a path.
func (s *Server) find(path string) (to route, ok bool) {
	if s.origin.Guarded != nil && strings.HasPrefix(path, guardedPrefix) {
		return route{"", s.guard(s.origin.Guarded.ServeHTTP)}, true
	}
	to, ok = s.routes[path]
	return to, ok
}

// guard lets live sessions through.
func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, v := s.judgeAny(w, r); v != alive {
			if strings.HasPrefix(r.URL.Path, callPrefix) || strings.HasPrefix(r.URL.Path, onlyPrefix) {
				unauthenticated(w, strings.HasPrefix(r.URL.Path, callPrefix))
				return
			}
			writeJSON(w, http.StatusUnauthorized, apiError{"unauthorized"})
			return
		}
		next(w, r)
	}
}

// Below these, gRPC says of a call how it ended: in trailers behind a head, or in
// the head alone.
const (
	callPrefix = guardedPrefix + "call."
	onlyPrefix = guardedPrefix + "only."
)

// unauthenticated ends a gRPC call as its servers do without credentials
// (https://grpc.io/docs/guides/status-codes/).
func unauthenticated(w http.ResponseWriter, trailers bool) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	prefix := ""
	if trailers {
		prefix = http.TrailerPrefix
		_ = http.NewResponseController(w).Flush() // a client that has gone hears nothing anyway
	}
	h.Set(prefix+"Grpc-Status", "16")
	h.Set(prefix+"Grpc-Message", "who are you?")
}

// shelfFile is a file of the alphabet over and over, whole or in ranges.
func (s *Server) shelfFile(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(r.URL.Query().Get("size"))
	if err != nil || size < 0 || size > maxShelf {
		writeJSON(w, http.StatusBadRequest, apiError{"size must be a number of bytes up to " + strconv.Itoa(maxShelf)})
		return
	}
	content := make([]byte, size)
	_, _ = (&alphabet{}).Read(content) // cannot fail
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"alphabet-`+strconv.Itoa(size)+`"`)
	http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), bytes.NewReader(content))
}

// shelfMoved redirects n times, then to /shelf/file, with the rest of the
// query. &code=N is the status; 302 without.
func (s *Server) shelfMoved(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	n, err := strconv.Atoi(q.Get("n"))
	if err != nil || n < 1 {
		writeJSON(w, http.StatusBadRequest, apiError{"n must be a number from 1"})
		return
	}
	code := http.StatusFound
	if given, err := strconv.Atoi(q.Get("code")); err == nil && given/100 == 3 {
		code = given
	}
	to := "/shelf/moved"
	if q.Set("n", strconv.Itoa(n-1)); n == 1 {
		to = "/shelf/file"
		if q.Del("n"); r.Method != http.MethodGet && r.Method != http.MethodHead {
			to = "/shelf/drop"
		}
	}
	w.Header().Set("Location", to+"?"+q.Encode())
	w.WriteHeader(code)
}

// shelfDrop counts and hashes an upload, and says who made it.
func (s *Server) shelfDrop(w http.ResponseWriter, r *http.Request) {
	answer, err := hashBody(r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, apiError{"body"})
		return
	}
	credential, _ := anyCredential(r)
	answer.Identity, _ = s.book.owner(credential)
	writeJSON(w, http.StatusOK, answer)
}
