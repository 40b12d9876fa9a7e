package session

import (
	"errors"
	"net/url"
	"strings"

	"github.com/holdfast-proxy/holdfast/macro"
)

// redacted is a macro's failure as it may be told to clients, in traces and in
// warnings. The macro's error names the place that an origin redirects to, and
// origins put codes, tokens and session ids there.
func redacted(err error) error {
	var step *macro.StepError
	if !errors.As(err, &step) {
		return err
	}
	status, place, redirects := strings.Cut(step.Got, " to ")
	if !redirects {
		return err
	}
	told := *step
	told.Got = status + " to " + publicPlace(strings.TrimSpace(place))
	return &told
}

// publicPlace is a URL or path without what may be secret in it: credentials,
// query, fragment, parameters of the path, and segments that look drawn.
func publicPlace(place string) string {
	u, err := url.Parse(place)
	if err != nil || u.Opaque != "" || strings.Contains(place, " ") {
		return "a place that is no URL"
	}
	segments := strings.Split(u.EscapedPath(), "/")
	for i, s := range segments {
		s, _, _ = strings.Cut(s, ";")
		if looksDrawn(s) {
			s = "…"
		}
		segments[i] = s
	}
	public := strings.Join(segments, "/")
	if u.Host != "" {
		public = "//" + u.Host + public
	}
	if u.Scheme != "" {
		public = u.Scheme + ":" + public
	}
	return public
}

// maxPlain is how long a segment of a path can be that is no word, in bytes.
const maxPlain = 24

// looksDrawn reports whether a segment may be a token: it is long, or has
// digits and is longer than a version such as v2.
func looksDrawn(s string) bool {
	return len(s) > maxPlain || len(s) >= 8 && strings.ContainsAny(s, "0123456789")
}
