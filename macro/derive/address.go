package derive

import (
	"net/url"
	"strings"

	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
)

// sourceOf is a source with what the answer calls the value.
type sourceOf struct {
	rule.Source
	called string
}

// String is the source in words.
func (s sourceOf) String() string { return s.Source.String() }

// jarURL is a URL as jars want it.
func jarURL(raw string) (jar.URL, bool) {
	scheme, rest, ok := strings.Cut(raw, "://")
	authority, path := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	path, _, _ = strings.Cut(path, "?")
	u, err := url.Parse("http://" + authority)
	if !ok || err != nil {
		return jar.URL{}, false
	}
	return jar.URL{Secure: scheme == "https", Host: strings.ToLower(u.Hostname()), Path: path}, true
}

// resolve is where a reference in an answer to a URL leads; "" where that cannot
// be said.
func resolve(base, ref string) string {
	b, err := url.Parse(base)
	if err != nil {
		return ""
	}
	u, err := b.Parse(strings.TrimSpace(ref))
	if err != nil {
		return ""
	}
	u.Fragment = ""
	return u.String()
}

func withoutQuery(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	raw, _, _ = strings.Cut(raw, "#")
	return raw
}

// shown is a URL or a path as it can be shown: without its query, and without
// segments that look like tokens.
func shown(raw string) string {
	segments := strings.Split(withoutQuery(raw), "/")
	for i, segment := range segments {
		if host := i == 2 && strings.Contains(raw, "://"); !host && looksMade(segment) && len(segment) >= 12 {
			segments[i] = "…"
		}
	}
	return strings.Join(segments, "/")
}

// samePlace reports whether two URLs are one, apart from the order of nothing:
// a recorded URL and the one that a redirect named.
func samePlace(a, b string) bool {
	clean := func(s string) string {
		s, _, _ = strings.Cut(s, "#")
		u, err := url.Parse(s)
		if err != nil {
			return s
		}
		if u.Path == "" {
			u.Path = "/"
		}
		host := strings.ToLower(u.Host)
		if u.Scheme == "https" {
			host = strings.TrimSuffix(host, ":443")
		} else {
			host = strings.TrimSuffix(host, ":80")
		}
		return u.Scheme + "://" + host + u.EscapedPath() + "?" + u.RawQuery
	}
	return clean(a) == clean(b)
}
