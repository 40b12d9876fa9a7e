package upstream_test

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

func newAuthServer(t *testing.T) (*testenv.AuthServer, flow.Origin) {
	t.Helper()
	s := testenv.NewAuthServer(map[string]string{"Mufasa": `Circle "of" Life`, `SHOP\alice`: "pässword", `SHOP\bob`: "b", `SHOP\carol`: "c"})
	t.Cleanup(s.Close)
	u, _ := url.Parse(s.URL)
	_, port, _ := net.SplitHostPort(u.Host)
	n, _ := strconv.Atoi(port)
	return s, flow.Origin{Host: "127.0.0.1", Port: uint16(n)}
}

// authorized is a request for a path, logged in as somebody.
func authorized(t testing.TB, at flow.Origin, path, body, identity string, a flow.Auth) *flow.Flow {
	t.Helper()
	method := "GET"
	if body != "" {
		method = "POST"
	}
	f := request(t, at, method, body)
	if err := f.Edit().SetTarget([]byte(path)); err != nil {
		t.Fatal(err)
	}
	f.Received = f.Request
	f.Identity, f.Auth = identity, &a
	return f
}

// pieces is a body that comes in many.
type pieces struct {
	text string
	size int
}

func (p *pieces) Framing() wire.Framing {
	return wire.Framing{Kind: wire.Length, Length: int64(p.size)}
}
func (p *pieces) Close() error { return nil }
func (p *pieces) Next() ([]byte, error) {
	n := min(len(p.text), 50_000)
	piece := []byte(p.text[:n])
	if p.text = p.text[n:]; n == 0 {
		return nil, io.EOF
	}
	return piece, nil
}

// ask sends a flow and returns what the origin says.
func ask(t testing.TB, p *upstream.Pool, f *flow.Flow) string {
	t.Helper()
	before := string(f.Request.Bytes())
	if err := p.Send(t.Context(), f); err != nil {
		t.Errorf("%s: %v", f.Request.Target(), err)
		return ""
	}
	if after := string(f.Request.Bytes()); after != before {
		t.Errorf("the flow's request became %q", after)
	}
	_, body, _ := strings.Cut(answer(t, f), "\r\n\r\n")
	if f.Response.Has("Transfer-Encoding") { // of one chunk, as the server writes it
		_, body, _ = strings.Cut(body, "\r\n")
		body, _, _ = strings.Cut(body, "\r\n")
	}
	return fmt.Sprint(f.Response.Status(), " ", body)
}

func mufasa(scheme string) flow.Auth {
	return flow.Auth{Scheme: scheme, Username: "Mufasa", Password: `Circle "of" Life`}
}

func TestBasic(t *testing.T) {
	s, at := newAuthServer(t)
	p := newPool(t, upstream.Config{})
	if got := ask(t, p, authorized(t, at, "/basic", "body", "", mufasa(flow.AuthBasic))); !strings.HasPrefix(got, "200 Mufasa") || !strings.HasSuffix(got, " body") {
		t.Errorf("answered %q", got)
	}
	own := authorized(t, at, "/basic", "", "", mufasa(flow.AuthBasic))
	if err := own.Edit().Set("Authorization", "Basic eDp5"); err != nil {
		t.Fatal(err)
	}
	own.Received = own.Request
	if got := ask(t, p, own); !strings.HasPrefix(got, "401") || strings.Join(s.Refused(), ",") != "x" {
		t.Errorf("a request with credentials of its own was answered %q, refused %q", got, s.Refused())
	}
}

func TestDigest(t *testing.T) {
	for _, algorithm := range []string{"", "MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256"} {
		for _, qop := range []string{"", "auth", "auth-int", "auth, auth-int"} {
			if qop == "" && strings.HasSuffix(algorithm, "-sess") {
				continue // RFC 2069 knows no -sess
			}
			t.Run(algorithm+" "+qop, func(t *testing.T) {
				s, at := newAuthServer(t)
				p := newPool(t, upstream.Config{})
				path := "/digest?algorithm=" + algorithm + "&qop=" + url.QueryEscape(qop)
				for i, body := range []string{"", "", "first body", "second"} {
					got := ask(t, p, authorized(t, at, path, body, "", mufasa(flow.AuthDigest)))
					if !strings.HasPrefix(got, "200 Mufasa") || !strings.HasSuffix(got, " "+body) {
						t.Errorf("request %d was answered %q", i, got)
					}
				}
				if n := s.Requests(); n != 5 || len(s.Refused()) != 0 {
					t.Errorf("%d requests, refused %q: want one challenge for all", n, s.Refused())
				}
				s.Forget()
				if got := ask(t, p, authorized(t, at, path, "again", "", mufasa(flow.AuthDigest))); !strings.HasPrefix(got, "200 Mufasa") || !strings.HasSuffix(got, " again") {
					t.Errorf("after the nonce went stale: %q", got)
				}
				wrong := mufasa(flow.AuthDigest)
				wrong.Password = "Scar"
				if got := ask(t, p, authorized(t, at, path, "", "scar", wrong)); !strings.HasPrefix(got, "401") || !strings.HasSuffix(strings.Join(s.Refused(), ","), "wrong response") {
					t.Errorf("a wrong password: %q, refused %q", got, s.Refused())
				}
			})
		}
	}
}

// Nonces that are good for a few requests only, from many clients at once: no
// count comes twice, and every request gets through.
func TestDigestInParallel(t *testing.T) {
	s, at := newAuthServer(t)
	p := newPool(t, upstream.Config{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				got := ask(t, p, authorized(t, at, "/digest?algorithm=SHA-256&qop=auth", "x", "", mufasa(flow.AuthDigest)))
				if !strings.HasPrefix(got, "200 Mufasa") {
					t.Errorf("answered %q", got)
				}
			}
		})
	}
	all.Wait()
	if refused := s.Refused(); len(refused) != 0 {
		t.Errorf("refused: %q", refused)
	}
}

// The vectors of RFC 7616 §3.9.1 and §3.9.2.
func TestDigestVectors(t *testing.T) {
	for challenge, want := range map[string]string{
		`Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`:     "8ca523f5e9506fed4657c9700eebdbec",
		`Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		got, err := upstream.DigestAnswer(challenge, "Mufasa", "Circle of Life", "GET", "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
		if err != nil || !strings.Contains(got, `response="`+want+`"`) || !strings.Contains(got, "nc=00000001") {
			t.Errorf("answered %s, %v; want the response %s", got, err, want)
		}
	}
}

func TestAuthOfLargeBodies(t *testing.T) {
	large := strings.Repeat("large ", 400<<10)
	for _, c := range []struct {
		path string
		auth flow.Auth
		want string
	}{
		{"/digest?qop=auth", mufasa(flow.AuthDigest), "200 Mufasa"},
		{"/open", mufasa(flow.AuthDigest), "200 nobody"},
		{"/ntlm", flow.Auth{Scheme: flow.AuthNTLM, Username: `SHOP\bob`, Password: "b"}, `200 SHOP\bob`},
		{"/open", flow.Auth{Scheme: flow.AuthNTLM, Username: `SHOP\bob`, Password: "b"}, "200 nobody"},
	} {
		t.Run(c.auth.Scheme+c.path, func(t *testing.T) {
			_, at := newAuthServer(t)
			p := newPool(t, upstream.Config{})
			for range 3 {
				f := authorized(t, at, c.path, large, "bob", c.auth)
				f.RequestBody = &pieces{large, len(large)}
				got := ask(t, p, f)
				if !strings.HasPrefix(got, c.want) || !strings.HasSuffix(got, " "+large) {
					t.Errorf("answered %.40q of %d bytes", got, len(got))
				}
			}
		})
	}
	_, at := newAuthServer(t)
	p := newPool(t, upstream.Config{})
	ask(t, p, authorized(t, at, "/digest?qop=auth-int", "", "", mufasa(flow.AuthDigest)))
	f := authorized(t, at, "/digest?qop=auth-int", large, "", mufasa(flow.AuthDigest))
	f.RequestBody = &pieces{large, len(large)}
	e := wantReason(t, p.Send(t.Context(), f), flow.ReasonAuth)
	if !strings.Contains(e.Detail, "larger than 1 MiB") {
		t.Errorf("the error says %q", e.Detail)
	}
}

// Three identities log in by NTLM at the same time, over and over: no connection
// is ever shared, and logins are kept.
func TestNTLMIsOfOneIdentity(t *testing.T) {
	s, at := newAuthServer(t)
	p := newPool(t, upstream.Config{})
	var all sync.WaitGroup
	for identity, password := range map[string]string{"alice": "pässword", "bob": "b", "carol": "c"} {
		for client := range 4 {
			all.Go(func() {
				for i := range 15 {
					body := ""
					if i%3 == 0 {
						body = "hello"
					}
					f := authorized(t, at, "/ntlm", body, identity, flow.Auth{Scheme: flow.AuthNTLM, Username: `SHOP\` + identity, Password: password})
					f.Client = uint64(client + 1)
					if got := ask(t, p, f); !strings.HasPrefix(got, `200 SHOP\`+identity+" ") {
						t.Errorf("%s was answered %q", identity, got)
					}
				}
			})
		}
	}
	all.Wait()
	if refused := s.Refused(); len(refused) != 0 {
		t.Errorf("refused: %q", refused)
	}
	for conn, users := range s.Users() {
		if len(users) != 1 {
			t.Errorf("connection %d was logged in as %q", conn, users)
		}
	}
	if n := len(s.Users()); n > 12*15/2 {
		t.Errorf("%d logins for 180 requests: connections are not kept", n)
	}
	// Who does not log in gets none of these connections.
	if got := ask(t, p, authorized(t, at, "/ntlm", "", "mallory", mufasa(flow.AuthBasic))); !strings.HasPrefix(got, "401") {
		t.Errorf("without a login: %q", got)
	}
}

func TestNTLMRefused(t *testing.T) {
	s, at := newAuthServer(t)
	p := newPool(t, upstream.Config{})
	got := ask(t, p, authorized(t, at, "/ntlm", "x", "bob", flow.Auth{Scheme: flow.AuthNTLM, Username: `SHOP\bob`, Password: "wrong"}))
	if !strings.HasPrefix(got, "401") || strings.Join(s.Refused(), ",") != `wrong NTLMv2 response of SHOP\bob` {
		t.Errorf("a wrong password: %q, refused %q", got, s.Refused())
	}
	// Right after it with the right one: nothing of before is in the way.
	if got := ask(t, p, authorized(t, at, "/ntlm", "x", "bob", flow.Auth{Scheme: flow.AuthNTLM, Username: `SHOP\bob`, Password: "b"})); !strings.HasPrefix(got, `200 SHOP\bob`) {
		t.Errorf("answered %q", got)
	}
	if got := ask(t, p, authorized(t, at, "/basic", "", "bob", flow.Auth{Scheme: flow.AuthNTLM, Username: `SHOP\bob`, Password: "b"})); !strings.HasPrefix(got, "401") {
		t.Errorf("an origin that asks for another scheme: %q", got)
	}
}

// A request that came by HTTP/2 is sent as HTTP/1.1 where NTLM logs it in.
func TestNTLMOfHTTP2(t *testing.T) {
	_, at := newAuthServer(t)
	p := newPool(t, upstream.Config{})
	f := by2(t, at)
	if err := f.Request.SetTarget([]byte("/ntlm")); err != nil {
		t.Fatal(err)
	}
	f.Identity, f.Auth = "bob", &flow.Auth{Scheme: flow.AuthNTLM, Username: `SHOP\bob`, Password: "b"}
	if err := p.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, f); !strings.Contains(got, "\r\n\r\n"+`SHOP\bob `) || f.Request.Proto() != wire.HTTP2 {
		t.Errorf("answered %q, the request is now %v", got, f.Request.Proto())
	}
}
