package session_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/session"
)

func TestSpoilt(t *testing.T) {
	tests := map[string]string{
		"":                          "",
		"deadbeef-0199":             "efbecffa-1200",
		"Zm9v+/z=":                  "Gn0w+/g=",
		"eyJhbGciOi.eyJzdWIi.c2lnz": "eyJhbGciOi.eyJzdWIi.d3mog",
		"a.b.c":                     "b.c.d",
	}
	for value, want := range tests {
		if got := session.Spoilt(value); got != want {
			t.Errorf("%q became %q; want %q", value, got, want)
		}
	}
}
