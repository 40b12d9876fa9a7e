package testenv

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

// The shape of https://dummyjson.com/docs/auth: its key order, its messages
// and status codes, its cookies. Two things differ. Tokens have a jti, so two
// of one second are not the same; and AccessTTL, where it is set, counts
// instead of what the request asks for, which cannot be less than a minute.

const (
	cookieAccess  = "accessToken"
	cookieRefresh = "refreshToken"

	maxExpiresMins = 43200
)

type dummyTokens struct {
	Access  string `json:"accessToken"`
	Refresh string `json:"refreshToken"`
}

type dummyLoginAnswer struct {
	dummyTokens
	ID        int    `json:"id"`
	Name      string `json:"username"`
	Email     string `json:"email"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	Gender    string `json:"gender"`
	Image     string `json:"image"`
}

func (s *Server) dummyLogin(w http.ResponseWriter, r *http.Request) {
	var posted struct {
		Name     any      `json:"username"`
		Password any      `json:"password"`
		Minutes  *float64 `json:"expiresInMins"`
	}
	readJSON(r, &posted)
	name, isText := posted.Name.(string)
	password, _ := posted.Password.(string)
	ttl, ok := s.dummyTTL(posted.Minutes)
	switch {
	case isEmpty(posted.Name) || isEmpty(posted.Password):
		writeJSON(w, http.StatusBadRequest, message{"Username and password required"})
		return
	case !isText:
		writeJSON(w, http.StatusBadRequest, message{"Username is not valid"})
		return
	case !ok && *posted.Minutes != 0:
		writeJSON(w, http.StatusInternalServerError, message{"Maximum access token expire time can be 43200 minutes"})
		return
	}
	who := s.book.login(name, password)
	if who == nil {
		writeJSON(w, http.StatusBadRequest, message{"Invalid credentials"})
		return
	}
	now := s.origin.Clock()
	opened := s.book.open(who, shapeDummy, now.Add(ttl))
	tokens := s.dummyHand(w, opened, now, ttl)
	writeJSON(w, http.StatusOK, dummyLoginAnswer{tokens, who.ID, who.Name, who.email(), who.FirstName, who.LastName, who.Gender, who.image()})
}

// isEmpty is what JavaScript takes for false.
func isEmpty(value any) bool {
	return value == nil || value == "" || value == false || value == 0.0
}

// dummyTTL is the life of an access token for which this many minutes were
// asked. Zero is 30 days, which only a login may ask for.
func (s *Server) dummyTTL(minutes *float64) (ttl time.Duration, ok bool) {
	switch {
	case minutes == nil:
		ttl, ok = time.Hour, true
	case *minutes == 0:
		ttl, ok = maxExpiresMins*time.Minute, false
	default:
		ttl = time.Duration(*minutes * float64(time.Minute))
		ok = *minutes >= 1 && *minutes <= maxExpiresMins
	}
	if s.origin.AccessTTL > 0 {
		ttl = s.origin.AccessTTL
	}
	return ttl, ok
}

// dummyHand makes the two tokens of a session and sets the cookies.
func (s *Server) dummyHand(w http.ResponseWriter, of *session, now time.Time, ttl time.Duration) dummyTokens {
	refreshTTL := s.refreshTTL()
	tokens := dummyTokens{
		Access:  s.jwt(of.identity, now, ttl),
		Refresh: s.jwt(of.identity, now, refreshTTL),
	}
	s.book.hand(tokens.Access, &token{session: of, use: useAccess})
	s.book.hand(tokens.Refresh, &token{session: of, use: useRefresh, expires: now.Add(refreshTTL)})
	life := "; Path=/"
	if !s.origin.HideExpiry {
		life = fmt.Sprintf("; Max-Age=%d; Path=/; Expires=%s", wholeSeconds(ttl), now.Add(ttl).UTC().Format(http.TimeFormat))
	}
	w.Header().Add("Set-Cookie", cookieAccess+"="+tokens.Access+life+"; HttpOnly; Secure")
	w.Header().Add("Set-Cookie", cookieRefresh+"="+tokens.Refresh+life+"; HttpOnly; Secure")
	return tokens
}

func (s *Server) refreshTTL() time.Duration {
	if s.origin.RefreshTTL > 0 {
		return s.origin.RefreshTTL
	}
	return 30 * 24 * time.Hour
}

// wholeSeconds rounds up: Max-Age has no fraction, and 0 deletes the cookie.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// jwt signs a token. Like the libraries it counts from a whole second where
// the life is whole seconds, so that exp may be up to one second early.
func (s *Server) jwt(who *Identity, now time.Time, ttl time.Duration) string {
	c := claims{who.ID, who.Name, who.email(), who.FirstName, who.LastName, who.Gender, who.image(), now.Unix(), nil, secret()}
	if !s.origin.HideExpiry {
		exp := float64(now.Unix()) + ttl.Seconds()
		if ttl%time.Second != 0 {
			exp = float64(now.Add(ttl).UnixMilli()) / 1000
		}
		c.Expires = &exp
	}
	return sign(s.book.key, c)
}

// dummyAuth lets live sessions through. It answers the others, and deletes
// their cookies.
func (s *Server) dummyAuth(w http.ResponseWriter, r *http.Request) (*session, bool) {
	credential := strings.Replace(r.Header.Get("Authorization"), "Bearer ", "", 1)
	if credential == "" {
		credential = cookieValue(r, cookieAccess)
	}
	// A refresh token opens the door as well: it has the same key and payload.
	found, v := s.book.judge(credential, useAccess, useRefresh)
	if v == alive {
		return found, true
	}
	status, text := http.StatusUnauthorized, "Token Expired!"
	switch v {
	case missing:
		text = "Access Token is required"
	case foreign:
		status, text = s.dummyForeign(credential)
	}
	clearDummyCookies(w, "")
	writeJSON(w, status, message{text})
	return nil, false
}

// dummyForeign tells why a token that is not in the book is refused.
func (s *Server) dummyForeign(credential string) (int, string) {
	c, err := verify(s.book.key, credential)
	switch {
	case err == errSignature:
		return http.StatusInternalServerError, "invalid signature"
	case err != nil:
		return http.StatusUnauthorized, "Invalid/Expired Token!"
	case s.book.byName[strings.ToLower(c.Name)] == nil:
		return http.StatusBadRequest, "Invalid access token"
	}
	return http.StatusUnauthorized, "Token Expired!" // forgotten since
}

func clearDummyCookies(w http.ResponseWriter, attributes string) {
	for _, name := range []string{cookieAccess, cookieRefresh} {
		w.Header().Add("Set-Cookie", name+"=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"+attributes)
	}
}

func (s *Server) dummyMe(w http.ResponseWriter, r *http.Request) {
	if found, ok := s.dummyAuth(w, r); ok {
		writeJSON(w, http.StatusOK, portrait(found.identity))
	}
}

func (s *Server) dummyProducts(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.dummyAuth(w, r); ok {
		writeText(w, http.StatusOK, "application/json; charset=utf-8",
			`{"products":[{"id":1,"title":"Kettle","price":19.5},{"id":2,"title":"Lamp","price":42}],"total":2,"skip":0,"limit":30}`)
	}
}

func (s *Server) dummyRefresh(w http.ResponseWriter, r *http.Request) {
	var posted struct {
		Refresh string   `json:"refreshToken"`
		Minutes *float64 `json:"expiresInMins"`
	}
	readJSON(r, &posted)
	if posted.Refresh == "" {
		posted.Refresh = cookieValue(r, cookieRefresh)
	}
	ttl, ok := s.dummyTTL(posted.Minutes)
	switch {
	case posted.Refresh == "":
		writeJSON(w, http.StatusUnauthorized, message{"Refresh token required"})
		return
	case !ok:
		writeJSON(w, http.StatusInternalServerError, message{"Maximum access token expire time can be 43200 minutes"})
		return
	}
	now := s.origin.Clock()
	opened, v := s.book.refresh(posted.Refresh, shapeDummy, now.Add(ttl), true)
	if v != alive {
		writeJSON(w, http.StatusForbidden, message{"Invalid refresh token"})
		return
	}
	writeJSON(w, http.StatusOK, s.dummyHand(w, opened, now, ttl))
}

// dummyLogout deletes the cookies and, as the original, leaves the tokens
// good.
func (s *Server) dummyLogout(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.dummyAuth(w, r); ok {
		clearDummyCookies(w, "; HttpOnly; Secure")
		writeJSON(w, http.StatusOK, message{"Logged out successfully"})
	}
}

// person is the long answer of /auth/me.
type person struct {
	ID        int    `json:"id"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	Maiden    string `json:"maidenName"`
	Age       int    `json:"age"`
	Gender    string `json:"gender"`
	Email     string `json:"email"`
	Phone     string `json:"phone"`
	Name      string `json:"username"`
	Password  string `json:"password"`
	Birth     string `json:"birthDate"`
	Image     string `json:"image"`
	Blood     string `json:"bloodGroup"`
	Hair      struct {
		Color string `json:"color"`
		Type  string `json:"type"`
	} `json:"hair"`
	Address struct {
		Street     string `json:"address"`
		City       string `json:"city"`
		PostalCode string `json:"postalCode"`
		Country    string `json:"country"`
	} `json:"address"`
	Bank struct {
		CardExpire string `json:"cardExpire"`
		CardNumber string `json:"cardNumber"`
		Currency   string `json:"currency"`
		IBAN       string `json:"iban"`
	} `json:"bank"`
	SSN  string `json:"ssn"`
	Role string `json:"role"`
}

// portrait makes up what is not known of an identity. It is the same every
// time.
func portrait(of *Identity) person {
	p := person{
		ID: of.ID, FirstName: of.FirstName, LastName: of.LastName, Age: 20 + of.ID, Gender: of.Gender,
		Email: of.email(), Phone: "+00 000 000 0000", Name: of.Name, Password: of.Password,
		Birth: "2000-1-1", Image: of.image(), Blood: "O-", SSN: "000-00-0000", Role: of.Role,
	}
	p.Hair.Color, p.Hair.Type = "Brown", "Curly"
	p.Address.Street, p.Address.City, p.Address.PostalCode, p.Address.Country = "1 Main Street", "Springfield", "00000", "Nowhere"
	p.Bank.CardExpire, p.Bank.CardNumber, p.Bank.Currency, p.Bank.IBAN = "01/99", "0000000000000000", "Crown", "XX00000000"
	return p
}
