package upstream_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

// newLoginOrigin is an origin that authenticates connections: it answers who
// the connection belongs to, and 401 while that is nobody. The scheme takes
// two steps, as NTLM does: a name is told with the first, and believed with
// the second.
func newLoginOrigin(t testing.TB, scheme string) flow.Origin {
	t.Helper()
	o := newOrigin(t, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := o.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				r := wire.NewReader(conn, wire.Limits{})
				claimed, believed := "", ""
				for {
					var req wire.Request
					if r.ReadRequest(&req) != nil || !drain(r, &req) {
						return
					}
					authorization, _ := req.Get("Authorization")
					text := strings.TrimPrefix(string(authorization), scheme+" ")
					switch {
					case len(authorization) == 0:
					case text == "proof":
						believed = claimed
					default:
						claimed = text
					}
					status := "200 OK"
					if believed == "" {
						status = "401 No\r\nWWW-Authenticate: Basic realm=\"a, b\"\r\nWWW-Authenticate: " + scheme
					}
					fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(believed), believed)
				}
			})
		}
	})
	t.Cleanup(func() {
		o.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return o.at
}

// who is whom the origin takes the flow to be from.
func who(t testing.TB, p *upstream.Pool, at flow.Origin, identity string, client uint64, authorization string) string {
	t.Helper()
	head := "GET / HTTP/1.1\r\nHost: x\r\n"
	if authorization != "" {
		head += "Authorization: " + authorization + "\r\n"
	}
	f := withHead(t, at, head+"\r\n")
	f.Identity, f.Client = identity, client
	if err := p.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(answer(t, f), "\r\n\r\n")
	return body
}

func TestNoCrossTalkOnAuthenticatedConnections(t *testing.T) {
	for _, scheme := range []string{"NTLM", "Negotiate", "negotiate"} {
		for _, asksFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, asks first: %v", scheme, asksFirst), func(t *testing.T) {
				at := newLoginOrigin(t, scheme)
				p := newPool(t, upstream.Config{})
				who(t, p, at, "", 9, "") // leaves a connection that everybody could use
				login := func(identity string, client uint64, name string) {
					if asksFirst {
						who(t, p, at, identity, client, "")
					}
					who(t, p, at, identity, client, scheme+" "+name)
					if got := who(t, p, at, identity, client, scheme+" proof"); got != name {
						t.Fatalf("%s is taken for %q", name, got)
					}
				}
				login("alice", 1, "Alice")
				login("bob", 2, "Bob")
				for range 3 {
					for _, c := range []struct {
						identity string
						client   uint64
						want     string
					}{{"alice", 1, "Alice"}, {"bob", 2, "Bob"}, {"alice", 3, ""}, {"bob", 1, ""}, {"alice", 2, ""}, {"", 1, ""}, {"", 0, ""}} {
						if got := who(t, p, at, c.identity, c.client, ""); got != c.want {
							t.Errorf("identity %q on connection %d is taken for %q, want %q", c.identity, c.client, got, c.want)
						}
					}
				}
			})
		}
	}
}

func TestBasicIsNoReasonToPin(t *testing.T) {
	o := newOrigin(t, nil)
	o.serve(func(conn, n int) string {
		if conn > 1 {
			return "HTTP/1.1 500 another connection\r\nContent-Length: 0\r\n\r\n"
		}
		return "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"NTLM\", Digest realm=x\r\nContent-Length: 0\r\n\r\n"
	})
	p := newPool(t, upstream.Config{})
	for client := range uint64(5) {
		f := withHead(t, o.at, "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic TlRMTSA=\r\n\r\n")
		f.Client = client
		if err := p.Send(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if got := f.Response.Status(); got != 401 || len(f.Trace.Events) != 0 {
			t.Errorf("client %d: status %d, trace %v", client, got, f.Trace.Events)
		}
	}
}
