package jar_test

import (
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

func TestParseDate(t *testing.T) {
	const none = ""
	for _, c := range []struct{ in, want string }{
		{"Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"},
		{"Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z"},
		{"Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z"},
		{"1994 08:49:37 november 6th", "1994-11-06T08:49:37Z"},
		{"6 Nov 69 8:9:7", "2069-11-06T08:09:07Z"},
		{"6 Nov 70 8:9:7", "1970-11-06T08:09:07Z"},
		{"6 Nov 1601 00:00:00", "1601-11-06T00:00:00Z"},
		{"6 Nov 1600 00:00:00", none},
		{"6 Nov 19941 00:00:00", none},
		{"6 Nov 9 00:00:00", none},
		{"006 Nov 1994 00:00:00", none},
		{"30 Feb 2024 00:00:00", none},
		{"29 Feb 2024 00:00:00", "2024-02-29T00:00:00Z"},
		{"29 Feb 2023 00:00:00", none},
		{"0 Nov 1994 00:00:00", none},
		{"6 Nov 1994 24:00:00", none},
		{"6 Nov 1994 23:60:00", none},
		{"6 Nov 1994 23:59:60", none},
		{"6 Nov 1994 23:59", none},
		{"6 Nov 1994 23:59:001", none},
		{"6 Nov 1994", none},
		{"6 No 1994 00:00:00", none},
		{"", none},
	} {
		want, _ := time.Parse(time.RFC3339, c.want)
		got, ok := jar.ParseDate(c.in)
		if ok != (c.want != none) || ok && !got.Equal(want) {
			t.Errorf("%q: got %v %v, want %q", c.in, got, ok, c.want)
		}
	}
}

// Every instant in the three forms of RFC 9110 §5.6.7 comes back.
func FuzzParseDate(f *testing.F) {
	f.Add(int64(784111777))
	f.Fuzz(func(t *testing.T, seconds int64) {
		want := time.Unix(seconds%(100*365*24*3600), 0).UTC()
		for _, form := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", time.ANSIC} {
			if got, ok := jar.ParseDate(want.Format(form)); !ok || !got.Equal(want) {
				t.Errorf("%q: got %v %v", want.Format(form), got, ok)
			}
		}
	})
}
