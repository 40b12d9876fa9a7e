package holdfast_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

const httpAuthRules = `
identities:
  alice:
    variables: {USER: alice, PASS: a}
    auth: {type: ntlm, domain: SHOP, username: "{{USER}}", password: "{{PASS}}", hosts: "127.0.0.1"}
  bob:
    variables: {USER: bob, PASS: b}
    auth: {type: ntlm, domain: SHOP, username: "{{USER}}", password: "{{PASS}}", hosts: ["127.0.0.1"]}
macros:
  - name: login
    steps:
      - request: GET AUTH/basic HTTP/1.1
        auth: {type: basic, username: 'SHOP\{{USER}}', password: "{{PASS}}"}
        extract: [{token_name: WHO, source: {type: ResponseBody, regex: '^SHOP\\(\w+)'}}]
rules:
  - name: digest
    scope: {pattern: "AUTH/digest", target: url}
    auth: {type: digest, username: 'SHOP\{{USER}}', password: "{{PASS}}"}
  - name: open
    scope: {pattern: "AUTH/open", target: url}
    validation: {check_type: {type: StatusCode, value: 401}}
    reauth_macro: login
    token_updates: [{token_name: WHO, target: {type: QueryParam, name: who}}]
`

// Identities log in by NTLM and by Digest through one proxy at the same time: no
// answer is ever another one's.
func TestHTTPAuthentication(t *testing.T) {
	s := testenv.NewAuthServer(map[string]string{`SHOP\alice`: "a", `SHOP\bob`: "b"})
	t.Cleanup(s.Close)
	w := newWorld(t, testenv.Origin{}, strings.ReplaceAll(httpAuthRules, "AUTH", s.URL))
	ask := func(client *http.Client, path, body string) string {
		resp, err := client.Post(s.URL+path, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return ""
		}
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(raw))
	}
	var all sync.WaitGroup
	for _, identity := range []string{"alice", "bob"} {
		client := w.newClient(identity)
		for range 4 {
			all.Go(func() {
				for range 10 {
					for _, path := range []string{"/ntlm", "/digest?algorithm=SHA-256&qop=auth-int"} {
						if got := ask(client, path, "hi"); !strings.HasPrefix(got, `200 SHOP\`+identity+" ") || !strings.HasSuffix(got, " hi") {
							t.Errorf("%s of %s: %q", path, identity, got)
						}
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
	// A step of a macro has its own credentials.
	if got := ask(w.newClient("bob"), "/open", ""); !strings.HasPrefix(got, "200 nobody") {
		t.Errorf("with a token of a macro that logs in by Basic: %q", got)
	}
	w.traced("logged in by NTLM")
	w.traced("Digest authentication: sent again")
	if strings.Contains(w.trace.String(), "TlRMTVNT") {
		t.Error("the trace holds credentials")
	}
	// Anonymous requests are nobody's.
	if got := ask(w.newClient("anonymous"), "/ntlm", ""); !strings.HasPrefix(got, "401") {
		t.Errorf("an anonymous request: %q", got)
	}
}
