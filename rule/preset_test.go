package rule_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
)

// The seed's words: what is dead, what is taken from the answer, what the next
// request looks like.
func TestPreset(t *testing.T) {
	const start = "GET / HTTP/1.1\nHost: shop.example\n"
	for _, c := range []struct {
		name    string
		params  map[string]string
		dead    []int // of 200, 302, 401, 403, 500
		macros  []string
		answer  string
		values  map[string]string
		request string // after the injections, behind start
	}{
		{"jwt_bearer", map[string]string{"macro": "refresh, login"}, []int{401, 403}, []string{"refresh", "login"},
			ok200 + "\n{\"access_token\":\"a.b\"}", map[string]string{"access_token": "a.b"}, "Authorization: Bearer a.b\n"},
		{"jwt_bearer", map[string]string{"field": "data.jwt", "token": "JWT", "header": "X-Auth"}, []int{401, 403}, nil,
			ok200 + "\n{\"data\":{\"jwt\":\"a.b\"}}", map[string]string{"JWT": "a.b"}, "X-Auth: Bearer a.b\n"},
		{"cookie_session", map[string]string{"cookie": "sid", "macro": "login"}, []int{302, 401, 403}, []string{"login"},
			ok200 + "Set-Cookie: sid=abc; Path=/\n\n", map[string]string{"sid": "abc"}, "Cookie: sid=abc\n"},
		{"csrf_token", nil, nil, nil,
			ok200 + "\n<input name=\"_csrf\" value=\"tok\">", map[string]string{"csrf_token": "tok"}, "X-CSRF-Token: tok\n"},
		{"csrf_token", map[string]string{"field": "authenticity_token", "header": "X-XSRF"}, nil, nil,
			ok200 + "\n<input type=hidden value=tok name=authenticity_token>", map[string]string{"csrf_token": "tok"}, "X-XSRF: tok\n"},
		{"oauth2_refresh", map[string]string{"macro": "refresh"}, []int{401}, []string{"refresh"},
			ok200 + "\n{\"access_token\":\"a\",\"refresh_token\":\"r\"}", map[string]string{"access_token": "a", "refresh_token": "r"}, "Authorization: Bearer a\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := rule.Preset(c.name, c.params)
			if err != nil {
				t.Fatalf("Preset: %v", err)
			}
			if diff := cmp.Diff(c.macros, r.Recovery); diff != "" {
				t.Errorf("recovery (-want +got):\n%s", diff)
			}
			var dead []int
			for code, line := range map[int]string{200: "200 OK", 302: "302 Found", 401: "401 No", 403: "403 No", 500: "500 Oops"} {
				if r.Dead != nil && r.Dead.Match(answered(t, "GET", "HTTP/1.1 "+line+"\n\n")) == httpql.True {
					dead = append(dead, code)
				}
			}
			if !sameCodes(dead, c.dead) {
				t.Errorf("dead are %v, want %v", dead, c.dead)
			}
			head, body, _ := strings.Cut(c.answer, "\n\n")
			resp, req := response(t, head+"\n\n"), request(t, start+"\n")
			values := make(map[string]string)
			for _, u := range r.Updates {
				if v, ok := u.Source.Extract(nil, resp, []byte(body)); ok {
					values[u.Token] = v
					if u.Target != nil {
						if _, err := u.Target.Inject(&rule.Message{Request: req}, v, nil); err != nil {
							t.Error(err)
						}
					}
				}
			}
			if diff := cmp.Diff(c.values, values); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
			want := strings.ReplaceAll(start+c.request+"\n", "\n", "\r\n")
			if diff := cmp.Diff(want, string(req.Bytes())); diff != "" {
				t.Errorf("the request (-want +got):\n%s", diff)
			}
			r.Name, r.Scope.Pattern = "preset", "*"
			compile(t, r)
		})
	}
}

func sameCodes(got, want []int) bool {
	if len(got) != len(want) {
		return false
	}
	seen := make(map[int]bool)
	for _, code := range got {
		seen[code] = true
	}
	for _, code := range want {
		if !seen[code] {
			return false
		}
	}
	return true
}

func TestPresetMistakes(t *testing.T) {
	for _, c := range []struct {
		name      string
		params    map[string]string
		key, says string
	}{
		{"jwt", nil, "preset", "no preset"},
		{"cookie_session", nil, "cookie", "needs a cookie"},
		{"oauth2_refresh", nil, "macro", "needs a macro"},
		{"jwt_bearer", map[string]string{"cookie": "x"}, "cookie", "no parameter cookie"},
		{"jwt_bearer", map[string]string{"field": "a..b"}, "source.path", "empty name"},
		{"csrf_token", map[string]string{"header": "X Y"}, "target.name", "no name"},
	} {
		_, err := rule.Preset(c.name, c.params)
		var e *rule.Error
		if !errors.As(err, &e) || e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
			t.Errorf("%s %v: got %v, want key %q, %q and a next step", c.name, c.params, err, c.key, c.says)
		}
	}
}
