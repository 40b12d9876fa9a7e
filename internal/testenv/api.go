package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"time"
)

// The shape of a plain JSON API: access_token in the body, Bearer in the
// request, {"error":"unauthorized"} when the session is dead.

type apiTokens struct {
	Access    string   `json:"access_token"`
	Refresh   string   `json:"refresh_token,omitempty"`
	Type      string   `json:"token_type,omitempty"`
	ExpiresIn *float64 `json:"expires_in,omitempty"` // seconds; has a fraction where AccessTTL has one
}

// accessTTL is for the shapes where a request cannot ask for one.
func (s *Server) accessTTL() time.Duration {
	if s.origin.AccessTTL > 0 {
		return s.origin.AccessTTL
	}
	return time.Hour
}

// opaqueTokens makes random tokens for a session.
func (s *Server) opaqueTokens(of *session, now time.Time, withRefresh bool) apiTokens {
	tokens := apiTokens{Access: secret()}
	s.book.hand(tokens.Access, &token{session: of, use: useAccess})
	if withRefresh {
		tokens.Refresh = secret()
		s.book.hand(tokens.Refresh, &token{session: of, use: useRefresh, expires: now.Add(s.refreshTTL())})
	}
	if !s.origin.HideExpiry {
		seconds := s.accessTTL().Seconds()
		tokens.ExpiresIn = &seconds
	}
	return tokens
}

func (s *Server) apiLogin(w http.ResponseWriter, r *http.Request) {
	var posted struct {
		Name     string `json:"username"`
		Password string `json:"password"`
	}
	readJSON(r, &posted)
	who := s.book.login(posted.Name, posted.Password)
	if who == nil {
		writeJSON(w, http.StatusUnauthorized, apiError{"invalid_credentials"})
		return
	}
	now := s.origin.Clock()
	opened := s.book.open(who, shapeAPI, now.Add(s.accessTTL()))
	writeJSON(w, http.StatusOK, s.opaqueTokens(opened, now, true))
}

func (s *Server) apiRefresh(w http.ResponseWriter, r *http.Request) {
	var posted struct {
		Refresh string `json:"refresh_token"`
	}
	readJSON(r, &posted)
	now := s.origin.Clock()
	opened, v := s.book.refresh(posted.Refresh, shapeAPI, now.Add(s.accessTTL()), false)
	if v != alive {
		writeJSON(w, http.StatusUnauthorized, apiError{"invalid_refresh_token"})
		return
	}
	tokens := s.opaqueTokens(opened, now, s.book.rotates(shapeAPI))
	if tokens.Refresh == "" {
		tokens.Refresh = posted.Refresh
	}
	writeJSON(w, http.StatusOK, tokens)
}

// written is the answer to a write.
type written struct {
	Count    int64  `json:"count"` // bytes of the body
	SHA256   string `json:"sha256"`
	ID       string `json:"id,omitempty"`
	Applied  int    `json:"applied,omitempty"` // how often a write with this id took effect
	Identity string `json:"identity,omitempty"`
}

func (s *Server) apiGoods(w http.ResponseWriter, r *http.Request) {
	found, v := s.book.judge(bearer(r), useAccess)
	if v != alive {
		writeJSON(w, http.StatusUnauthorized, apiError{"unauthorized"})
		return
	}
	if r.Method != http.MethodPost {
		writeText(w, http.StatusOK, "application/json; charset=utf-8",
			`{"items":[{"id":1,"name":"Kettle"},{"id":2,"name":"Lamp"}],"identity":"`+found.identity.Name+`"}`)
		return
	}
	answer, err := hashBody(r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, apiError{"body"})
		return
	}
	answer.ID, answer.Identity = idempotencyID(r), found.identity.Name
	times, ok := s.book.write(found.identity, answer.ID)
	if !ok {
		writeJSON(w, http.StatusInsufficientStorage, apiError{"too_many_ids"})
		return
	}
	answer.Applied = times
	writeJSON(w, http.StatusOK, answer)
}

// idempotencyID names a write, so that a second time is noticed: by the
// Idempotency-Key field or the query parameter id.
func idempotencyID(r *http.Request) string {
	if id := r.Header.Get("Idempotency-Key"); id != "" {
		return id
	}
	return r.URL.Query().Get("id")
}

func hashBody(r *http.Request) (written, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	return written{Count: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}
