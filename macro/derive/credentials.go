package derive

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// noise marks what no login needs for its own sake.
func (d *deriver) noise() {
	answered := slices.ContainsFunc(d.items, func(it *item) bool { return it.x.Response != nil })
	for _, it := range d.items {
		// A command line and a request from a file have no answers at all.
		if it.x.Response != nil || answered || it.req.method == "OPTIONS" {
			it.noise = noiseOf(it)
		}
	}
}

func noiseOf(it *item) string {
	if it.req.method == "OPTIONS" {
		return "a preflight of a browser"
	}
	if it.x.Response == nil {
		return "it was not answered"
	}
	if it.x.Kind == "websocket" || it.x.Response.Status() == 101 {
		return "a WebSocket"
	}
	u, err := url.Parse(it.x.URL)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	for _, known := range trackers() {
		if host == known || strings.HasSuffix(host, "."+known) {
			return "analytics or advertising"
		}
	}
	if it.req.method != "GET" && it.req.method != "HEAD" {
		return ""
	}
	switch it.x.Kind {
	case "image", "font", "stylesheet", "media", "manifest", "texttrack", "ping", "script":
		return "a static file"
	}
	media, _, _ := strings.Cut(strings.ToLower(string(it.x.Response.Combined("Content-Type"))), ";")
	switch family, _, _ := strings.Cut(media, "/"); {
	case family == "image", family == "font", family == "audio", family == "video", media == "text/css", strings.HasSuffix(media, "javascript"),
		strings.Contains(media, "font"), media == "application/wasm":
		return "a static file"
	}
	switch strings.ToLower(path.Ext(u.Path)) {
	case ".css", ".js", ".mjs", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".webp", ".woff", ".woff2", ".ttf", ".map", ".mp4", ".webmanifest":
		return "a static file"
	}
	return ""
}

// trackers are hosts of analytics, advertising and a browser's own traffic.
func trackers() []string {
	return []string{"google-analytics.com", "googletagmanager.com", "doubleclick.net", "analytics.google.com", "segment.io", "segment.com", "hotjar.com", "hotjar.io",
		"facebook.net", "connect.facebook.net", "clarity.ms", "bat.bing.com", "mixpanel.com", "amplitude.com", "fullstory.com", "newrelic.com", "nr-data.net",
		"sentry.io", "datadoghq.com", "browser-intake-datadoghq.com", "bugsnag.com", "matomo.cloud", "plausible.io", "intercom.io", "optimizely.com",
		"safebrowsing.googleapis.com", "update.googleapis.com", "optimizationguide-pa.googleapis.com", "content-autofill.googleapis.com",
		"detectportal.firefox.com", "push.services.mozilla.com", "firefox.settings.services.mozilla.com", "incoming.telemetry.mozilla.org", "clients2.google.com"}
}

// credentialSlot reports a place where a person's input can stand.
func credentialSlot(s *slot) bool {
	kind, _, _ := strings.Cut(s.label, ":")
	return kind == "form" || kind == "json" || kind == "multipart" || kind == "query"
}

// formNames are the fields that forms of recorded pages ask a user and a
// password with.
func (d *deriver) formNames() (users, passwords map[string]bool) {
	users, passwords = make(map[string]bool), make(map[string]bool)
	for _, it := range d.items {
		if it.answer == nil || !it.answer.html {
			continue
		}
		before := ""
		z := html.NewTokenizer(bytes.NewReader(it.answer.body))
		for n := 0; n < maxElements && z.Next() != html.ErrorToken; n++ {
			t := z.Token()
			if t.Data == "form" {
				before = ""
			}
			if t.Data != "input" || t.Type != html.StartTagToken && t.Type != html.SelfClosingTagToken {
				continue
			}
			name, kind := "", ""
			for _, a := range t.Attr {
				switch a.Key {
				case "name":
					name = a.Val
				case "type":
					kind = strings.ToLower(a.Val)
				}
			}
			switch {
			case kind == "password":
				passwords[name] = true
				users[before] = true
			case kind == "" || kind == "text" || kind == "email" || kind == "tel":
				before = name
			}
		}
	}
	delete(users, "")
	delete(passwords, "")
	return users, passwords
}

func isPasswordName(name string) bool {
	switch plainName(name) {
	case "password", "pass", "passwd", "pwd", "passphrase", "passcode", "jpassword", "loginpassword", "userpassword", "currentpassword", "secretkey", "pin", "logpwd":
		return true
	}
	return strings.HasSuffix(plainName(name), "password")
}

func isUserName(name string) bool {
	switch plainName(name) {
	case "username", "user", "login", "email", "mail", "jusername", "userid", "uid", "loginname", "userlogin", "identifier", "account", "accountname", "log",
		"loginid", "useremail", "emailaddress", "loginfmt", "usr", "identity", "name":
		return true
	}
	return strings.HasSuffix(plainName(name), "username") || strings.HasSuffix(plainName(name), "email")
}

// credentials makes variables of what a person typed, or keeps secret.
func (d *deriver) credentials() {
	for _, name := range slices.SortedFunc(maps.Keys(d.options.Values), func(a, b string) int {
		return cmp.Or(len(d.options.Values[b])-len(d.options.Values[a]), cmp.Compare(a, b)) // one may stand in another
	}) {
		d.given(name, d.options.Values[name])
	}
	users, passwords := d.formNames()
	for _, it := range d.items {
		d.passwords(it, users, passwords)
	}
	user := d.variables["USER"]
	for j, it := range d.items {
		for n := range it.req.slots {
			s := &it.req.slots[n]
			switch {
			case it.touched(s):
			case user != "" && s.text == user && credentialSlot(s) && (isUserName(s.name) || users[s.name]):
				d.typed(it, s, "USER", user, "the name that is logged in with")
				it.secret = true
			case s.label == "header:authorization" && strings.HasPrefix(s.text, "Basic "):
				d.basic(it, s)
			case credentialSlot(s):
				d.otherSecret(j, s)
			}
		}
	}
}

// given puts a variable wherever a value of the caller's stands.
func (d *deriver) given(name, value string) {
	if value == "" {
		return
	}
	found := false
	for _, it := range d.items {
		for n := range it.req.slots {
			s := &it.req.slots[n]
			for at := 0; ; {
				i := strings.Index(s.text[at:], value)
				if i < 0 || len(value) < 4 && len(value) != len(s.text) {
					break
				}
				if !it.covered(s, at+i, at+i+len(value)) {
					it.put(edit{slot: s, variable: name, encoding: pathEncoding(s)}, at+i, at+i+len(value))
					it.secret, found = true, true
				}
				at += i + len(value)
			}
		}
	}
	if !found {
		d.draft.note("the value given for %s stands in no request", name)
	}
	d.variable(name, value, true, "given")
}

func (d *deriver) variable(name, value string, secret bool, why string) {
	if _, ok := d.variables[name]; !ok {
		d.variables[name] = value
		d.order = append(d.order, Variable{Name: name, Value: value, Secret: secret, Why: why})
	}
}

func (d *deriver) isVariable(value string) bool {
	for _, v := range d.variables {
		if v == value {
			return true
		}
	}
	return false
}

// typed makes a variable of a place. Another value for a name that is taken
// gets a number.
func (d *deriver) typed(it *item, s *slot, name, value, why string) {
	for n := 2; d.variables[name] != "" && d.variables[name] != value; n++ {
		name = strings.TrimRight(name, "0123456789") + string(rune('0'+min(n, 9)))
		if n >= 9 {
			break
		}
	}
	it.put(edit{slot: s, variable: name}, 0, len(s.text))
	d.variable(name, value, true, why)
}

// passwords finds a password by the name of its field, and the user beside it.
func (d *deriver) passwords(it *item, users, passwords map[string]bool) {
	at := -1
	for n := range it.req.slots {
		s := &it.req.slots[n]
		if !credentialSlot(s) || !passwords[s.name] && !isPasswordName(s.name) {
			continue
		}
		it.secret = true
		if at < 0 {
			at = n
		}
		if !it.touched(s) {
			d.typed(it, s, "PASS", s.text, "the password: "+s.label)
		}
	}
	if at < 0 {
		return
	}
	best := -1
	for n := range it.req.slots {
		s := &it.req.slots[n]
		if !credentialSlot(s) || it.touched(s) {
			continue
		}
		if users[s.name] || isUserName(s.name) && (best < 0 || plainName(s.name) != "name") {
			best = n
			if users[s.name] {
				break
			}
		}
	}
	if best >= 0 {
		s := &it.req.slots[best]
		d.typed(it, s, "USER", s.text, "the name that is logged in with: "+s.label)
	}
}

// basic makes one variable of the credentials of RFC 7617.
func (d *deriver) basic(it *item, s *slot) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s.text[len("Basic "):]))
	if err != nil || !isText(string(raw)) {
		return
	}
	d.variable("BASIC", string(raw), true, "name:password of Basic authentication")
	if d.variables["BASIC"] == string(raw) {
		it.put(edit{slot: s, variable: "BASIC", encoding: "base64:"}, len("Basic "), len(s.text))
		it.secret = true
	}
}

// otherSecret makes variables of secrets that no answer brings.
func (d *deriver) otherSecret(j int, s *slot) {
	it := d.items[j]
	switch plainName(s.name) {
	case "clientsecret":
		d.typed(it, s, "CLIENT_SECRET", s.text, "a client's secret: "+s.label)
		it.secret = true
	case "apikey":
		d.typed(it, s, "API_KEY", s.text, "a key: "+s.label)
		it.secret = true
	case "refreshtoken":
		if d.lookup(j, s.text, s.name, s.label, false) == nil {
			d.typed(it, s, "REFRESH_TOKEN", s.text, "a token that was there before the recording began: "+s.label)
			it.secret = true
		}
	case "otp", "totp", "mfacode", "otpcode", "verificationcode", "onetimecode", "twofactorcode", "passcode2", "token2fa", "code":
		if len(s.text) >= 4 && len(s.text) <= 8 && strings.Trim(s.text, "0123456789") == "" {
			d.typed(it, s, "OTP", s.text, "a one-time code: "+s.label)
			it.secret = true
			d.draft.note("OTP is a one-time code: the recorded one is spent; give the identity a totp and write {{totp}} in its place, or give a new one for each run")
		}
	}
}

// pathEncoding is how a value is spelled in a path, where a template encodes
// nothing by itself.
func pathEncoding(s *slot) string {
	if s.path && s.raw != s.text {
		return "url:"
	}
	return ""
}
