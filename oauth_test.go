package holdfast_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

const oauthRules = `
macros:
  - name: refresh
    oauth2: {grant: refresh_token, token_url: "{{ORIGIN}}/oauth/token", client_id: spa}
  - name: login
    oauth2: {grant: password, token_url: "{{ORIGIN}}/oauth/token", client_id: spa, username: alice, password: alicepass}
rules:
  - name: api
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: [refresh, login]
    token_updates: [{token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}]
`

// Up to five hundred clients at once, over twenty expiries, before a provider that
// ends everything when a refresh token comes twice: none does.
func TestRefreshTokensAreSpentOnce(t *testing.T) {
	const expiries = 20
	w := newWorld(t, testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true}, oauthRules)
	for i := range expiries + 1 {
		clients := 50
		if i%5 == 0 {
			clients = 500
		}
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				if status, body := w.get("/oauth/userinfo"); status != 200 {
					t.Errorf("answered %d %s", status, body)
				}
			})
		}
		all.Wait()
		w.origin.KillAll()
	}
	s := w.origin.Stats()
	if s.Logins != 1 || s.Refreshes != expiries || s.BurntRefreshes != 0 || s.RevokedGrants != 0 || s.FailedRefreshes != 0 {
		t.Errorf("%d logins, %d refreshes, %d of them refused, %d with a token that was spent", s.Logins, s.Refreshes, s.FailedRefreshes, s.BurntRefreshes)
	}
}

const providerRules = `
identities:
  alice: {variables: {USER: alice, PASS: alicepass}}
macros:
  - name: code
    oauth2:
      grant: authorization_code
      authorize_url: IDP/authorize
      token_url: IDP/token
      redirect_uri: http://127.0.0.1:1/callback
      client_id: web
      client_secret: s3cret
      scope: openid
      extract: [{token_name: ACTION, source: {type: CSS, selector: form, attribute: action}}]
    steps:
      - request: |
          POST IDP{{ACTION}} HTTP/1.1
          Content-Type: application/x-www-form-urlencoded

          user={{USER}}&password={{PASS}}
  - name: device
    oauth2: {grant: device_code, device_url: IDP/device, token_url: IDP/token, client_id: tv, timeout: 30s}
  - name: client
    oauth2: {grant: client_credentials, token_url: IDP/token, client_id: web, client_secret: s3cret, scope: openid}
rules:
  - name: api
    scope: {pattern: "IDP/me", target: url}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: MACRO
    token_updates: [{token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}]
`

func TestOAuthGrants(t *testing.T) {
	for grant, who := range map[string]string{"code": "alice", "device": "someone with a telephone", "client": "web"} {
		t.Run(grant, func(t *testing.T) {
			p := testenv.NewProvider(map[string]string{"alice": "alicepass"})
			t.Cleanup(p.Close)
			w := &world{t: t, origin: nil, home: t.TempDir()}
			origin, err := testenv.Origin{}.Start()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(origin.Close)
			w.origin = origin
			w.more = func(c *holdfast.Config) {
				c.Warn = func(text string) {
					if !strings.HasPrefix(text, "open "+p.URL+"/activate and enter ") {
						t.Errorf("told %q", text)
					}
					p.Approve(text[strings.LastIndexByte(text, ' ')+1:])
				}
			}
			w.start(strings.NewReplacer("IDP", p.URL, "MACRO", grant).Replace(providerRules))
			for range 2 {
				resp, err := w.client.Get(p.URL + "/me")
				if err != nil {
					t.Fatal(err)
				}
				body := make([]byte, 100)
				n, _ := resp.Body.Read(body)
				resp.Body.Close()
				if resp.StatusCode != 200 || string(body[:n]) != who {
					t.Errorf("answered %d %s", resp.StatusCode, body[:n])
				}
			}
			if grants := p.Grants(); grants != 1 {
				t.Errorf("%d grants, want one for both requests", grants)
			}
		})
	}
}
