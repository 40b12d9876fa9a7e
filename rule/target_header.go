package rule

import (
	"strings"
)

func headerPlace() targetPlace {
	return targetPlace{
		prefix: "header:",
		key:    "name",
		fold:   true,
		trims:  true,
		check: func(t *Target) error {
			if isFramingField([]byte(t.Name)) {
				return &Error{Problem: t.Name + " says where the body ends and cannot hold a token", Next: "name another header"}
			}
			return tokenName(t)
		},
		find: func(m *Message, t *Target) ([]byte, bool) { return m.Request.Get(t.Name) },
		put: func(m *Message, t *Target, text []byte) (bool, error) {
			for i := range m.Request.NumFields() {
				if n, _ := m.Request.Field(i); equalFold(n, t.Name) {
					return true, m.Request.SetFieldValue(i, text)
				}
			}
			return true, m.Request.AddBytes(t.Name, text)
		},
		render: written,
		plain:  asItIs,
		refuse: func(_ *Message, text []byte) string {
			for _, b := range text {
				if b == '\r' || b == '\n' || b == 0 {
					return "a line end or NUL"
				}
			}
			return ""
		},
		drop: func(m *Message, t *Target) { m.Request.Del(t.Name) },
	}
}

// isFramingField reports whether a field says where the body ends.
func isFramingField(name []byte) bool {
	return equalFold(name, "Content-Length") || equalFold(name, "Transfer-Encoding")
}

// keepsScheme reports whether the target is Authorization without a template:
// a token alone, which needs a scheme (RFC 9110 §11.6.2).
func (t *Target) keepsScheme() bool {
	return t.Template == nil && t.Type == TargetRequestHeader && strings.EqualFold(t.Name, "Authorization")
}

// withScheme appends the value to text, behind the scheme that the request has,
// or Bearer where it has no credentials at all. Credentials without a scheme are
// how some applications want them, and stay without one. A value that was
// extracted with its scheme keeps that.
func withScheme(text, now []byte, present bool, value string) []byte {
	switch n := schemeLen(now); {
	case schemeLen(value) > 0:
	case n > 0:
		text = append(text, now[:n]...)
	case !present || len(now) == 0:
		text = append(text, "Bearer "...)
	case isLoneScheme(string(now)):
		text = append(append(text, now...), ' ')
	}
	return append(text, value...)
}

// schemeLen is the length of "Bearer " in "Bearer abc"; 0 when the text does
// not have both a scheme and credentials.
func schemeLen[T string | []byte](text T) int {
	n := 0
	for n < len(text) && text[n] != ' ' {
		n++
	}
	end := n
	for end < len(text) && text[end] == ' ' {
		end++
	}
	if n == 0 || end == n || end == len(text) { // a long token has no space
		return 0
	}
	for i := range n {
		if !isTokenByte(text[i]) {
			return 0
		}
	}
	return end
}

// isLoneScheme reports whether the text is a scheme that waits for credentials,
// as in a saved request whose token was cut out.
func isLoneScheme(text string) bool {
	switch strings.ToLower(text) {
	case "basic", "bearer", "digest", "dpop", "jwt", "negotiate", "oauth", "token":
		return true
	}
	return false
}
