package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Handler speaks by HTTP (streamable HTTP). It asks for no token, and looks at
// neither Host nor Origin: who serves it does.
type Handler struct {
	sessionless http.Handler // the revision of 2026-07-28 and later
	sessions    http.Handler // older ones
	server      *sdk.Server  // that has the sessions
	end         func()

	opening sync.Mutex // held while a session is opened, so that they are counted
}

// sessionlessSince is the first revision without sessions.
const sessionlessSince = "2026-07-28"

// Handler makes a Handler. Close it at the end.
func (s *Server) Handler() *Handler {
	h := &Handler{server: s.protocol(), end: s.Close}
	plain := s.protocol()
	// Who asks has been looked at by the guard in front, which knows the names
	// that a person gave; the one of the library does not.
	h.sessionless = sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return plain },
		&sdk.StreamableHTTPOptions{Stateless: true, MaxRequestBodyBytes: maxRequest, DisableLocalhostProtection: true, PropagateRequestCancellation: true})
	h.sessions = sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return h.server },
		&sdk.StreamableHTTPOptions{MaxRequestBodyBytes: maxRequest, DisableLocalhostProtection: true, SessionTimeout: idleSession})
	return h
}

// Close closes the Server, and ends the sessions.
func (h *Handler) Close() {
	h.end()
	for session := range h.server.Sessions() {
		session.Close()
	}
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			explain(w, http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("The body has more than %d bytes.", large.Limit), "Send less.")
			return
		}
		explain(w, http.StatusBadRequest, "parameter_invalid", "The body broke off.", "Send it again.")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	// A call may take longer than a request of the API; that the client goes away
	// is seen all the same.
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	w = &patient{w, http.NewResponseController(w)}
	if r.Header.Get("Mcp-Protocol-Version") >= sessionlessSince {
		h.sessionless.ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodPost || r.Header.Get("Mcp-Session-Id") != "" {
		h.sessions.ServeHTTP(w, r)
		return
	}
	h.opening.Lock()
	defer h.opening.Unlock()
	open := 0
	for range h.server.Sessions() {
		open++
	}
	if open >= maxSessions {
		explain(w, http.StatusServiceUnavailable, "sessions_too_many", fmt.Sprintf("%d clients have sessions, the most that may.", open), fmt.Sprintf("End one; those that are idle for %s end by themselves.", idleSession))
		return
	}
	h.sessions.ServeHTTP(w, r)
}

// explain writes a problem document (RFC 9457), as the API does.
func explain(w http.ResponseWriter, status int, code, detail, next string) {
	raw, err := json.Marshal(map[string]any{"type": "urn:holdfast:" + code, "title": http.StatusText(status), "status": status, "code": code, "detail": detail, "next": next})
	if err != nil { // only texts: cannot fail
		raw = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	w.Write(append(raw, '\n'))
}

// patient gives a client some time for each piece of an answer, in place of one
// for the whole.
type patient struct {
	http.ResponseWriter
	rc *http.ResponseController
}

// Write writes a piece.
func (p *patient) Write(b []byte) (int, error) {
	p.rc.SetWriteDeadline(time.Now().Add(writeWait))
	return p.ResponseWriter.Write(b)
}

// Flush sends what was written.
func (p *patient) Flush() {
	p.rc.SetWriteDeadline(time.Now().Add(writeWait))
	p.rc.Flush()
}

// Unwrap is for http.ResponseController.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }
