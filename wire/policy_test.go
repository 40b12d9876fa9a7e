package wire_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/wire"
)

func TestPoliciesInWords(t *testing.T) {
	for p := range wire.Policy(4) {
		got, ok := wire.ParsePolicy(p.String())
		if known := p <= wire.Raw; ok != known || known && got != p {
			t.Errorf("%v is read as %v, %v", p, got, ok)
		}
	}
	if p, ok := wire.ParsePolicy(""); p != wire.Strict || !ok {
		t.Errorf("nothing is read as %v, %v", p, ok)
	}
}

func TestForwardingIsTheMostCarefulPolicy(t *testing.T) {
	for head, want := range map[string]wire.Policy{
		"GET / HTTP/1.1\r\n\r\n": wire.Strict,
		"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n": wire.Lenient,
		"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n":          wire.Raw,
	} {
		r, err := wire.ParseRequest([]byte(head))
		if err != nil {
			t.Fatal(err)
		}
		if got := wire.Forwarding(r); got != want {
			t.Errorf("%q: %v, want %v", head, got, want)
		}
	}
}
