package testenv

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

// claims of a token (RFC 7519 §4.1), in the order in which DummyJSON writes
// them. The jti makes two tokens of one second differ. Times are numbers with
// a fraction where the life is no whole number of seconds.
type claims struct {
	ID        int      `json:"id"`
	Name      string   `json:"username"`
	Email     string   `json:"email"`
	FirstName string   `json:"firstName"`
	LastName  string   `json:"lastName"`
	Gender    string   `json:"gender"`
	Image     string   `json:"image"`
	IssuedAt  int64    `json:"iat"`
	Expires   *float64 `json:"exp,omitempty"`
	JTI       string   `json:"jti"`
}

var (
	errMalformed = errors.New("jwt malformed")
	errSignature = errors.New("invalid signature")
)

// jwtHeader is {"alg":"HS256","typ":"JWT"}.
const jwtHeader = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

// sign makes a JSON Web Token with HMAC-SHA256 (RFC 7515 §3.1, RFC 7518 §3.2).
func sign(key []byte, c claims) string {
	payload, err := json.Marshal(c)
	if err != nil {
		panic("internal error: claims: " + err.Error())
	}
	text := jwtHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(mac(key, text))
}

// verify reads a token of sign's. It does not look at the times.
func verify(key []byte, token string) (claims, error) {
	var c claims
	text, signature, ok := cutLast(token, ".")
	if !ok || strings.Count(text, ".") != 1 {
		return c, errMalformed
	}
	header, payload, _ := strings.Cut(text, ".")
	var alg struct{ Alg string }
	if !decodeJSON(header, &alg) || !decodeJSON(payload, &c) || alg.Alg != "HS256" {
		return c, errMalformed
	}
	sum, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(sum, mac(key, text)) {
		return c, errSignature
	}
	return c, nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func decodeJSON(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, into) == nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
