package h2_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for something that must happen.
const patience = 2 * time.Minute

// pair is two ends of a TCP connection on loopback: with room in the kernel,
// as the package expects of its writer.
func pair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, server} {
		c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { c.Close() })
	}
	return client, server
}

// running is a connection whose Run is under way.
type running struct {
	*h2.Conn
	raw  net.Conn
	done chan error
}

// run starts a connection; it ends with the test.
func run(t testing.TB, raw net.Conn, cfg h2.Config) *running {
	t.Helper()
	r := &running{Conn: h2.New(raw, raw, cfg), raw: raw, done: make(chan error, 1)}
	r.Start(false)
	go func() {
		err := r.Run()
		raw.Close()
		r.done <- err
	}()
	t.Cleanup(func() {
		raw.Close()
		<-r.done
	})
	return r
}

// ended returns what Run returned.
func (r *running) ended(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(patience):
		t.Fatal("the connection does not end")
		return nil
	}
}

// serve is a server's side that answers each stream in a goroutine of its own.
func serve(t testing.TB, raw net.Conn, cfg h2.Config, answer func(*h2.Stream)) *running {
	t.Helper()
	cfg.Accept = func(s *h2.Stream) {
		go func() {
			defer s.Done()
			answer(s)
		}()
	}
	return run(t, raw, cfg)
}

func head(lines ...string) *wire.Head {
	h := new(wire.Head)
	h.Reset(wire.HTTP2)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "= ")
		h.AppendField([]byte(name), []byte(value), 0)
	}
	return h
}

func text(h *wire.Head) string {
	var b strings.Builder
	for i := range h.NumFields() {
		name, value := h.Field(i)
		fmt.Fprintf(&b, "%s= %s", name, value)
		if h.Flags(i)&wire.NeverIndex != 0 {
			b.WriteString(" (never)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func readAll(b wire.Body) (string, error) {
	var all []byte
	for {
		p, err := b.Next()
		all = append(all, p...)
		if err == io.EOF {
			return string(all), nil
		}
		if err != nil {
			return string(all), err
		}
	}
}
