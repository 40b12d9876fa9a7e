package rule

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The names of the presets.
const (
	PresetJWTBearer     = "jwt_bearer"
	PresetCookieSession = "cookie_session"
	PresetCSRFToken     = "csrf_token"
	PresetOAuth2Refresh = "oauth2_refresh"
)

// presetParam is a parameter of a preset; without a value it must be given.
type presetParam struct{ name, value string }

type preset struct {
	name   string
	params []presetParam
	codes  []any
	build  func(p map[string]string) []Update
}

func presets() []preset {
	return []preset{
		{PresetJWTBearer,
			[]presetParam{{"field", "access_token"}, {"token", "access_token"}, {"header", "Authorization"}, {"macro", "-"}},
			[]any{401, 403},
			func(p map[string]string) []Update {
				return []Update{{Token: p["token"], Source: &Source{Type: SourceJSON, Path: p["field"]}, Target: bearer(p)}}
			}},
		{PresetCookieSession,
			[]presetParam{{"cookie", ""}, {"token", "-"}, {"macro", "-"}},
			[]any{302, 401, 403},
			func(p map[string]string) []Update {
				token := p["token"]
				if token == "" {
					token = p["cookie"]
				}
				return []Update{{Token: token, Source: &Source{Type: SourceCookie, Name: p["cookie"]}, Target: &Target{Type: TargetCookie, Name: p["cookie"]}}}
			}},
		{PresetCSRFToken,
			[]presetParam{{"field", "_csrf"}, {"token", "csrf_token"}, {"header", "X-CSRF-Token"}, {"macro", "-"}},
			nil,
			func(p map[string]string) []Update {
				return []Update{{Token: p["token"], Source: &Source{Type: SourceFormField, Name: p["field"]}, Target: &Target{Type: TargetRequestHeader, Name: p["header"]}}}
			}},
		{PresetOAuth2Refresh,
			[]presetParam{{"macro", ""}, {"field", "access_token"}, {"refresh_field", "refresh_token"},
				{"token", "access_token"}, {"refresh_token", "refresh_token"}, {"header", "Authorization"}},
			[]any{401},
			func(p map[string]string) []Update {
				return []Update{
					{Token: p["token"], Source: &Source{Type: SourceJSON, Path: p["field"]}, Target: bearer(p)},
					// RFC 6749 §6: a refresh need not bring a new refresh token.
					{Token: p["refresh_token"], Source: &Source{Type: SourceJSON, Path: p["refresh_field"]}, Optional: true},
				}
			}},
	}
}

// bearer is a target that is always sent with the Bearer scheme, as the
// presets' description has it, whatever the request had.
func bearer(p map[string]string) *Target {
	return &Target{Type: TargetRequestHeader, Name: p["header"],
		Template: &Template{src: "Bearer {{" + p["token"] + "}}", parts: []Part{{Text: "Bearer "}, {Text: "{{" + p["token"] + "}}", Name: p["token"]}}}}
}

// PresetNames lists the presets.
func PresetNames() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// Preset is the check, recovery and token updates of a built-in rule, enabled;
// name, scope and priority are left to the caller. macro is one name or
// several with commas, the cheapest first. Errors are *Error.
//
//   - jwt_bearer: 401 or 403 is dead; the JSON field (access_token) goes to
//     header (Authorization) as Bearer. Parameters field, token, header, macro.
//   - cookie_session: 302, 401 or 403 is dead; the cookie goes from Set-Cookie
//     to Cookie. Parameters cookie (must be given), token, macro.
//   - csrf_token: no answer is dead; the form field (_csrf) goes to header
//     (X-CSRF-Token). Parameters field, token, header, macro.
//   - oauth2_refresh: 401 is dead; the JSON fields access_token and
//     refresh_token are kept, the first goes to header (Authorization) as
//     Bearer. Parameters macro (must be given), field, refresh_field, token,
//     refresh_token, header.
func Preset(name string, params map[string]string) (Rule, error) {
	i := slices.IndexFunc(presets(), func(p preset) bool { return p.name == name })
	if i < 0 {
		return Rule{}, &Error{Key: "preset", Problem: fmt.Sprintf("there is no preset %q", name), Next: "write one of " + strings.Join(PresetNames(), ", ")}
	}
	p := presets()[i]
	given, err := p.resolve(params)
	if err != nil {
		return Rule{}, err
	}
	r := Rule{Enabled: true, Updates: p.build(given)}
	if len(p.codes) > 0 {
		if r.Dead, err = Check(CheckStatusCode, p.codes); err != nil {
			return Rule{}, err
		}
	}
	for macro := range strings.SplitSeq(given["macro"], ",") {
		if macro = strings.TrimSpace(macro); macro != "" {
			r.Recovery = append(r.Recovery, macro)
		}
	}
	for i := range r.Updates {
		if err := r.Updates[i].compile(); err != nil {
			return Rule{}, err
		}
	}
	return r, nil
}

// resolve fills in what is not given; "-" stands for a parameter that may be
// left empty.
func (p *preset) resolve(params map[string]string) (map[string]string, error) {
	given := make(map[string]string)
	var known []string
	for _, param := range p.params {
		known = append(known, param.name)
		value := params[param.name]
		if value == "" {
			value = param.value
		}
		if value == "" {
			return nil, &Error{Key: param.name, Problem: "the preset " + p.name + " needs a " + param.name, Next: "add " + param.name + " to its parameters"}
		}
		if value != "-" {
			given[param.name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !slices.Contains(known, name) {
			return nil, &Error{Key: name, Problem: "the preset " + p.name + " has no parameter " + name, Next: "its parameters are " + strings.Join(known, ", ")}
		}
	}
	return given, nil
}
