package h2_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

func TestSmugglingShapesAreNotConverted(t *testing.T) {
	good := []string{":method= POST", ":scheme= http", ":path= /", ":authority= a"}
	with := func(i int, field string) []string {
		return append(append([]string{}, good[:i]...), append([]string{field}, good[i+1:]...)...)
	}
	for name, fields := range map[string][]string{
		"a line in the method":            with(0, ":method= GET / HTTP/1.1\r\nX: y\r\n\r\nGET"),
		"a space in the method":           with(0, ":method= GET /admin"),
		"a line in the path":              with(2, ":path= / HTTP/1.1\r\nX: y"),
		"a space in the path":             with(2, ":path= / x"),
		"a line in the authority":         with(3, ":authority= a\r\nX: y"),
		"a line in a value":               append(good, "x= a\r\nTransfer-Encoding: chunked"),
		"a bare LF in a value":            append(good, "x= a\nb: c"),
		"a line in a name":                append(good, "x\r\nb= c"),
		"a colon in a name":               append(good, "transfer-encoding:x= chunked"),
		"a space behind a name":           append(good, "transfer-encoding = chunked"),
		"an empty name":                   append(good, "= x"),
		"Transfer-Encoding":               append(good, "transfer-encoding= chunked"),
		"Transfer-Encoding in upper case": append(good, "Transfer-Encoding= chunked"),
		"lengths that differ":             append(good, "content-length= 3", "content-length= 4"),
		"a length with a sign":            append(good, "content-length= +3"),
		"a list of lengths":               append(good, "content-length= 3, 3"),
	} {
		r := &wire.Request{Head: *head(fields...)}
		to, _, err := h2.RequestTo1(r, true)
		if !errors.As(err, new(*h2.ConvertError)) {
			t.Errorf("%s: became %q (%v)", name, to.Bytes(), err)
		}
	}
}

func TestConversions(t *testing.T) {
	r := &wire.Request{Head: *head(":method= GET", ":path= /a?b", ":authority= shop.example", ":scheme= https",
		"host= other.example", "Cookie= a=1", "x= 1", "cookie= b=2", "te= trailers", "connection= x")}
	to, notes, err := h2.RequestTo1(r, false)
	want := "GET /a?b HTTP/1.1\r\nHost: shop.example\r\nCookie: a=1; b=2\r\nx: 1\r\nte: trailers\r\n\r\n"
	if err != nil || string(to.Bytes()) != want {
		t.Errorf("to HTTP/1: %q (%v), want %q", to.Bytes(), err, want)
	}
	if text := strings.Join(notes, "\n"); !strings.Contains(text, "Host differed") || !strings.Contains(text, "connection") {
		t.Errorf("notes: %q", notes)
	}
	one, err := wire.ParseRequest([]byte("POST http://shop.example:8080/a?b HTTP/1.1\r\nHost: other\r\nTE: gzip\r\nX-Hop: 1\r\nConnection: x-hop\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nFolded: a\r\n b\r\nTransfer-Encoding: chunked\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := h2.RequestTo2(one, true)
	if want := ":method= POST\n:scheme= https\n:authority= shop.example:8080\n:path= /a?b\nhost= other\nfolded= a   b\n"; err != nil || text(&two.Head) != want {
		t.Errorf("to HTTP/2: %q (%v), want %q", text(&two.Head), err, want)
	}
	resp := &wire.Response{Head: *head(":status= 404", "server= x")}
	for _, c := range []struct {
		body, framed bool
		want         string
	}{
		{true, true, "HTTP/1.1 404 Not Found\r\nserver: x\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{true, false, "HTTP/1.1 404 Not Found\r\nserver: x\r\nConnection: close\r\n\r\n"},
		{false, true, "HTTP/1.1 404 Not Found\r\nserver: x\r\n\r\n"},
	} {
		got, _, err := h2.ResponseTo1(resp, c.body, c.framed)
		if err != nil || string(got.Bytes()) != c.want {
			t.Errorf("body %t, framed %t: %q (%v), want %q", c.body, c.framed, got.Bytes(), err, c.want)
		}
	}
}
