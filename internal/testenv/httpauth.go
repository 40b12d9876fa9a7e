package testenv

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"

	"golang.org/x/crypto/md4"
)

// AuthServer asks for HTTP authentication and verifies it: who and with which
// password are in Accounts, in NTLM with the domain in front (SHOP\alice).
// Every answer of 200 is "user connection-number body".
//
//	/open                          asks for nothing
//	/basic                         RFC 7617
//	/digest?algorithm=A&qop=Q      RFC 7616; without qop as RFC 2069 has it. A
//	                               nonce is good for Uses answers, whose counts must rise
//	/ntlm                          NTLMv2 ([MS-NLMP] §3.3.2), of the connection
type AuthServer struct {
	*httptest.Server
	Accounts map[string]string
	Uses     int // 0: any number

	mu       sync.Mutex
	conns    int
	nonces   map[string]map[uint64]bool // the counts that came with each
	refused  []string
	users    map[int][]string // of NTLM, by connection
	requests int
}

type authConn struct {
	number    int
	challenge []byte // of NTLM; nil: none is open
	user      string // who has logged the connection in
}

type authConnKey struct{}

// NewAuthServer starts one on a loopback port; Close it.
func NewAuthServer(accounts map[string]string) *AuthServer {
	s := &AuthServer{Accounts: accounts, nonces: make(map[string]map[uint64]bool), users: make(map[int][]string)}
	mux := http.NewServeMux()
	mux.HandleFunc("/open", func(w http.ResponseWriter, r *http.Request) { s.welcome(w, r, "nobody") })
	mux.HandleFunc("/basic", s.basic)
	mux.HandleFunc("/digest", s.digest)
	mux.HandleFunc("/ntlm", s.ntlm)
	s.Server = httptest.NewUnstartedServer(mux)
	s.Server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns++
		return context.WithValue(ctx, authConnKey{}, &authConn{number: s.conns})
	}
	s.Start()
	return s
}

// Refused lists why credentials were refused, in order.
func (s *AuthServer) Refused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused)
}

// Requests is how many there were.
func (s *AuthServer) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Users are those who logged in on each connection by NTLM.
func (s *AuthServer) Users() map[int][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[int][]string)
	for n, users := range s.users {
		all[n] = slices.Clone(users)
	}
	return all
}

// Forget has every nonce be unknown.
func (s *AuthServer) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.nonces)
}

func (s *AuthServer) welcome(w http.ResponseWriter, r *http.Request, user string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.requests++
	s.mu.Unlock()
	fmt.Fprintf(w, "%s %d %s", user, connOf(r).number, body)
}

func connOf(r *http.Request) *authConn { return r.Context().Value(authConnKey{}).(*authConn) }

func (s *AuthServer) refuse(w http.ResponseWriter, challenge, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if why != "" {
		s.refused = append(s.refused, why)
	}
	w.Header().Set("WWW-Authenticate", challenge)
	http.Error(w, "who are you?", http.StatusUnauthorized)
}

func (s *AuthServer) basic(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if want, known := s.Accounts[user]; !ok || !known || want != password {
		s.refuse(w, `Basic realm="shop", charset="UTF-8"`, user)
		return
	}
	s.welcome(w, r, user)
}

func (s *AuthServer) digest(w http.ResponseWriter, r *http.Request) {
	algorithm, qop := r.URL.Query().Get("algorithm"), r.URL.Query().Get("qop")
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	user, why, stale := s.checkDigest(r, algorithm, qop, raw)
	if why == "" {
		s.welcome(w, r, user)
		return
	}
	var random [12]byte
	rand.Read(random[:])
	nonce := hex.EncodeToString(random[:])
	s.mu.Lock()
	s.nonces[nonce] = make(map[uint64]bool)
	s.mu.Unlock()
	challenge := fmt.Sprintf(`Basic realm="other, one", Digest realm="a \"shop\"", nonce="%s", opaque="o=p,q", stale=%t`, nonce, stale)
	if algorithm != "" {
		challenge += ", algorithm=" + algorithm
	}
	if qop != "" {
		challenge += fmt.Sprintf(", qop=%q", qop)
	}
	if r.Header.Get("Authorization") == "" {
		why = ""
	}
	s.refuse(w, challenge, why)
}

// digestField reads the value of a name in an Authorization: Digest.
func digestField(field, name string) string {
	for _, sep := range []string{" ", ","} {
		at := strings.Index(field, sep+name+"=")
		if at < 0 {
			continue
		}
		rest := field[at+len(sep+name)+1:]
		if !strings.HasPrefix(rest, `"`) {
			value, _, _ := strings.Cut(rest, ",")
			return strings.TrimSpace(value)
		}
		var b strings.Builder
		for i := 1; i < len(rest) && rest[i] != '"'; i++ {
			if rest[i] == '\\' {
				i++
			}
			b.WriteByte(rest[i])
		}
		return b.String()
	}
	return ""
}

func (s *AuthServer) checkDigest(r *http.Request, algorithm, qop string, body []byte) (user, why string, stale bool) {
	field := r.Header.Get("Authorization")
	if !strings.HasPrefix(field, "Digest ") {
		return "", "no credentials", false
	}
	get := func(name string) string { return digestField(field, name) }
	user = get("username")
	password, known := s.Accounts[user]
	name := strings.TrimSuffix(strings.ToUpper(algorithm), "-SESS")
	sum := map[string]func() hash.Hash{"": md5.New, "MD5": md5.New, "SHA-256": sha256.New, "SHA-512-256": sha512.New512_256}[name]
	h := func(text string) string {
		d := sum()
		io.WriteString(d, text)
		return hex.EncodeToString(d.Sum(nil))
	}
	ha1 := h(user + ":" + `a "shop"` + ":" + password)
	if strings.HasSuffix(strings.ToUpper(algorithm), "-SESS") {
		ha1 = h(ha1 + ":" + get("nonce") + ":" + get("cnonce"))
	}
	a2 := r.Method + ":" + get("uri")
	chosen := get("qop")
	if chosen == "auth-int" {
		a2 += ":" + h(string(body))
	}
	want := h(ha1 + ":" + get("nonce") + ":" + h(a2))
	if qop != "" {
		want = h(ha1 + ":" + get("nonce") + ":" + get("nc") + ":" + get("cnonce") + ":" + chosen + ":" + h(a2))
	}
	switch {
	case !known:
		return "", "unknown user " + user, false
	case get("uri") != r.RequestURI:
		return "", "another uri " + get("uri"), false
	case get("opaque") != "o=p,q" || get("algorithm") != algorithm:
		return "", "another opaque or algorithm", false
	case qop != "" && !slices.Contains(strings.Split(qop, ", "), chosen):
		return "", "another qop " + chosen, false
	case want != get("response"):
		return "", "wrong response", false
	}
	var count uint64
	if _, err := fmt.Sscanf(get("nc"), "%08x", &count); qop != "" && err != nil {
		return "", "no count", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, good := s.nonces[get("nonce")]
	switch {
	case !good, s.Uses > 0 && len(seen) >= s.Uses:
		return "", "stale nonce", true
	case qop != "" && (seen[count] || count == 0):
		return "", fmt.Sprintf("the count %d came twice", count), false
	}
	seen[count] = true
	return user, "", false
}

func (s *AuthServer) ntlm(w http.ResponseWriter, r *http.Request) {
	c := connOf(r)
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	message, err := base64.StdEncoding.DecodeString(text)
	switch {
	case scheme == "" && c.user != "":
		s.welcome(w, r, c.user)
	case scheme != "NTLM" || err != nil || len(message) < 12 || !bytes.HasPrefix(message, []byte("NTLMSSP\x00")):
		s.refuse(w, "NTLM", "")
	case message[8] == 1:
		c.user, c.challenge = "", make([]byte, 8)
		rand.Read(c.challenge)
		s.refuse(w, "NTLM "+base64.StdEncoding.EncodeToString(ntlmChallenge(c.challenge)), "")
	default:
		user, why := s.checkNTLM(c.challenge, message)
		if c.challenge = nil; why != "" {
			s.refuse(w, "NTLM", why)
			return
		}
		s.mu.Lock()
		s.users[c.number] = append(s.users[c.number], user)
		s.mu.Unlock()
		c.user = user
		s.welcome(w, r, user)
	}
}

// ntlmChallenge is a CHALLENGE_MESSAGE ([MS-NLMP] §2.2.1.2) of the domain SHOP.
func ntlmChallenge(challenge []byte) []byte {
	name := utf16le("SHOP")
	info := binary.LittleEndian.AppendUint16(nil, 2) // MsvAvNbDomainName
	info = append(binary.LittleEndian.AppendUint16(info, uint16(len(name))), name...)
	info = append(info, 0, 0, 0, 0)
	m := append([]byte("NTLMSSP\x00"), 2, 0, 0, 0)
	field := func(n, at int) {
		m = binary.LittleEndian.AppendUint16(m, uint16(n))
		m = binary.LittleEndian.AppendUint16(m, uint16(n))
		m = binary.LittleEndian.AppendUint32(m, uint32(at))
	}
	field(len(name), 56)
	m = binary.LittleEndian.AppendUint32(m, 0x00828205&^0x80000|0x800000) // UNICODE, REQUEST_TARGET, NTLM, ALWAYS_SIGN, TARGET_INFO
	m = append(m, challenge...)
	m = append(m, make([]byte, 8)...)
	field(len(info), 56+len(name))
	m = append(m, make([]byte, 8)...) // version
	return append(append(m, name...), info...)
}

func utf16le(s string) (b []byte) {
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

func fromUTF16le(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// checkNTLM verifies an AUTHENTICATE_MESSAGE ([MS-NLMP] §2.2.1.3).
func (s *AuthServer) checkNTLM(challenge, m []byte) (user, why string) {
	field := func(at int) []byte {
		if len(m) < at+8 {
			return nil
		}
		n, from := int(binary.LittleEndian.Uint16(m[at:])), int(binary.LittleEndian.Uint32(m[at+4:]))
		if from+n > len(m) {
			return nil
		}
		return m[from : from+n]
	}
	response, domain, name := field(20), fromUTF16le(field(28)), fromUTF16le(field(36))
	user = domain + `\` + name
	password, known := s.Accounts[user]
	switch {
	case challenge == nil:
		return "", "no challenge is open"
	case !known:
		return "", "unknown user " + user
	case len(response) < 16+28:
		return "", "no NTLMv2 response"
	}
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(md5.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	h := md4.New()
	h.Write(utf16le(password))
	key := mac(h.Sum(nil), utf16le(strings.ToUpper(name)+domain))
	if !hmac.Equal(mac(key, challenge, response[16:]), response[:16]) {
		return "", "wrong NTLMv2 response of " + user
	}
	return user, ""
}
