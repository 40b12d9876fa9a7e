package testenv

import "net/http"

// The shape of OAuth 2.0: the token endpoint of RFC 6749 §3.2 with the grants
// password, refresh_token and client_credentials, and a resource protected by
// bearer tokens (RFC 6750).

type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func (s *Server) oauthToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store") // RFC 6749 §5.1
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	switch r.PostFormValue("grant_type") {
	case "password":
		s.oauthLogin(w, r.PostFormValue("username"), r.PostFormValue("password"), true)
	case "client_credentials":
		id, secret, ok := r.BasicAuth()
		if !ok {
			id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		}
		s.oauthLogin(w, id, secret, false)
	case "refresh_token":
		s.oauthRefresh(w, r.PostFormValue("refresh_token"))
	case "":
		writeJSON(w, http.StatusBadRequest, oauthError{"invalid_request", "grant_type is missing"})
	default:
		writeJSON(w, http.StatusBadRequest, oauthError{"unsupported_grant_type", ""})
	}
}

// oauthLogin opens a session for a person, or for a program that logs in as
// itself and gets no refresh token (RFC 6749 §4.4.3).
func (s *Server) oauthLogin(w http.ResponseWriter, name, password string, person bool) {
	who := s.book.login(name, password)
	switch {
	case who == nil && person:
		writeJSON(w, http.StatusBadRequest, oauthError{"invalid_grant", "wrong name or password"})
		return
	case who == nil:
		w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
		writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_client", "wrong client id or secret"})
		return
	}
	now := s.origin.Clock()
	opened := s.book.open(who, shapeOAuth, now.Add(s.accessTTL()))
	tokens := s.opaqueTokens(opened, now, person)
	tokens.Type = "Bearer"
	writeJSON(w, http.StatusOK, tokens)
}

func (s *Server) oauthRefresh(w http.ResponseWriter, text string) {
	now := s.origin.Clock()
	opened, v := s.book.refresh(text, shapeOAuth, now.Add(s.accessTTL()), false)
	if v != alive {
		writeJSON(w, http.StatusBadRequest, oauthError{"invalid_grant", "the refresh token is invalid, expired or revoked"})
		return
	}
	// Without rotation the answer holds no refresh token, and the client
	// keeps the one it has (RFC 6749 §6).
	tokens := s.opaqueTokens(opened, now, s.book.rotates(shapeOAuth))
	tokens.Type = "Bearer"
	writeJSON(w, http.StatusOK, tokens)
}

func (s *Server) oauthResource(w http.ResponseWriter, r *http.Request) {
	found, v := s.book.judge(bearer(r), useAccess)
	switch v {
	case alive:
		who := found.identity
		writeJSON(w, http.StatusOK, struct {
			Sub   string `json:"sub"`
			Name  string `json:"name"`
			Email string `json:"email"`
		}{who.Name, who.FirstName, who.email()})
	case missing:
		// RFC 6750 §3.1: no error code when there was no token.
		w.Header().Set("WWW-Authenticate", `Bearer realm="shop"`)
		writeText(w, http.StatusUnauthorized, "text/plain", "")
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="shop", error="invalid_token", error_description="The access token expired"`)
		writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_token", "The access token expired"})
	}
}
