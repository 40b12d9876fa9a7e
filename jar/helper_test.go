package jar_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// at makes a jar.URL of an address as people write it.
func at(t testing.TB, address string) jar.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return jar.URL{Secure: u.Scheme == "https", Host: u.Host, Path: u.EscapedPath()}
}

// set feeds Set-Cookie values to a jar as one answer.
func set(t testing.TB, j *jar.Jar, address string, order uint64, lines ...string) []jar.Change {
	t.Helper()
	values := make([][]byte, len(lines))
	for i, line := range lines {
		values[i] = []byte(line)
	}
	return j.SetFromResponse(at(t, address), values, noon, order)
}

// sent is the Cookie line for an address at noon.
func sent(t testing.TB, j *jar.Jar, address string) string {
	t.Helper()
	return j.Header(at(t, address), noon)
}

func kinds(changes []jar.Change) (out []jar.Kind) {
	for _, c := range changes {
		out = append(out, c.Kind)
	}
	return out
}

// one returns the only cookie of a jar.
func one(t testing.TB, j *jar.Jar) jar.Cookie {
	t.Helper()
	all := j.All()
	if len(all) != 1 {
		t.Fatalf("got %v, want one cookie", all)
	}
	return all[0]
}

func wantSent(t testing.TB, j *jar.Jar, address, want string) {
	t.Helper()
	if got := sent(t, j, address); got != want {
		t.Errorf("to %s: got %q, want %q", address, got, want)
	}
}
