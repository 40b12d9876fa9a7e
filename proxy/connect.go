package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// established answers CONNECT. The origin is not dialled for it: what comes
// through the tunnel may never need it.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// recordHandshake is the first byte of TLS (RFC 8446 §5.1), and of no HTTP.
const recordHandshake = 0x16

// connect opens a tunnel that ends here, and tells whether requests can be
// read from it.
func (c *client) connect(r *wire.Request) bool {
	c.recognize(r)
	if c.seen.denied {
		c.lastWord(deniedError())
		return false
	}
	origin, err := c.find(true, r.Target())
	if err != nil {
		c.lastWord(err)
		return false
	}
	c.giveLarge() // nothing of the head is kept
	if why := c.s.passes(c.raw, origin); why != "" {
		c.connectPassed(origin, why)
		return false
	}
	c.out.enter(outWriting)
	_, err = c.rw.Write([]byte(established))
	c.out.enter(outNothing)
	return err == nil && c.begin(origin)
}

// connectPassed answers CONNECT to an origin that is passed through.
func (c *client) connectPassed(origin flow.Origin, why string) {
	origin.TLS = false
	f, err := c.open(origin, why)
	if err != nil {
		c.lastWord(err)
		return
	}
	if c.write([]byte(established)) != nil {
		f.Upgraded.Close()
		return
	}
	c.out.enter(outNothing)
	c.carry(f, nil)
}

// secure does the TLS handshake of a server for the origin. What it returns
// knows more of the origin than the caller did.
func (c *client) secure(origin flow.Origin) (*begunConn, error) {
	if c.s.tls == nil {
		return nil, fmt.Errorf("%v wants TLS with %s, for which there is no certificate authority", c.raw.RemoteAddr(), origin.Host)
	}
	begun, err := c.take(origin)
	if err != nil {
		return nil, err
	}
	begun.keeping = c.s.canPass()
	return begun, c.shake(begun, c.s.tls)
}

// take makes a connection of the client's bytes that are not read yet.
func (c *client) take(origin flow.Origin) (*begunConn, error) {
	begun := &begunConn{Conn: c.rw, c: c, origin: origin, first: make([]byte, c.br.Buffered()+c.unread)}
	_, err := io.ReadFull(c.br, begun.first)
	c.br.Idle()
	c.early = nil
	return begun, err
}

func (c *client) shake(begun *begunConn, cfg *tls.Config) error {
	c.in.enter(inHandshake)
	conn := tls.Server(begun, cfg)
	begun.shaking = true
	err := conn.Handshake()
	begun.shaking = false
	c.in.enter(inNothing)
	if alert := begun.plainAlert(); err != nil && alert != nil {
		err = alert
	}
	switch {
	case errors.Is(err, errPassed):
		return errPassed
	case err != nil:
		return handshakeError(c.raw, begun.origin.Host, err)
	}
	c.rw = conn
	c.secured.Store(true)
	return nil
}

// begunConn is a connection of which the first bytes have been read.
type begunConn struct {
	net.Conn
	c      *client
	origin flow.Origin // of the tunnel; complete once SNI is known
	first  []byte

	keeping bool   // kept takes what is read, until it is certain that TLS ends here
	kept    []byte // for passing it on
	mute    bool   // nothing is written: TLS does not end here
	why     string // it does not

	shaking bool
	tail    [7]byte // what was read last while shaking
}

func (b *begunConn) Read(p []byte) (n int, err error) {
	if len(b.first) > 0 {
		n = copy(p, b.first)
		if b.first = b.first[n:]; len(b.first) == 0 {
			b.first = nil // its memory is not needed for as long as the connection lasts
		}
	} else {
		n, err = b.Conn.Read(p)
	}
	if b.shaking {
		last := append(b.tail[:], p[max(0, n-len(b.tail)):n]...)
		copy(b.tail[:], last[len(last)-len(b.tail):])
	}
	if b.keeping {
		b.kept = append(b.kept, p[:n]...)
	}
	return n, err
}

func (b *begunConn) Write(p []byte) (int, error) {
	if b.mute {
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// leafHost is what the certificate is for when the client does not say it.
func (b *begunConn) leafHost() string {
	if b.c.unaware {
		return b.c.here()
	}
	return b.origin.Host
}

// tlsConfig is shared by all tunnels, and with it the keys of session tickets:
// a client that returns resumes and saves both sides the signature.
func (s *Server) tlsConfig(offer ...string) *tls.Config {
	return &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			host := serverName(hello)
			if host == "" {
				host = hello.Conn.(*begunConn).leafHost()
			}
			return s.cfg.CA(host)
		},
		// curl --http1.0 offers nothing else.
		NextProtos: append(offer, "http/1.0"),
		// Old tools are tested with, too; what the origin speaks is another matter.
		MinVersion: tls.VersionTLS10,
		// Small first records would cost a system call each.
		DynamicRecordSizingDisabled: true,
	}
}

// serverName is what the client says by SNI. hey says host:port, which is no
// name (RFC 6066 §3), and to other servers as good as nothing.
func serverName(hello *tls.ClientHelloInfo) string {
	if strings.Contains(hello.ServerName, ":") {
		return ""
	}
	return hello.ServerName
}

// handshakeError says what the tester can do, who sees it in the log: the
// client shows only that the connection ended.
func handshakeError(conn net.Conn, host string, err error) error {
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" { // as crypto/tls marks alerts of the peer
		return fmt.Errorf("%v refused the certificate for %s (%w): have the client trust Holdfast's root certificate, see http://%s/",
			conn.RemoteAddr(), host, err, LocalHost)
	}
	return fmt.Errorf("TLS handshake of %v for %s: %w", conn.RemoteAddr(), host, err)
}

// lastWord answers without a flow, and ends the connection.
func (c *client) lastWord(err error) {
	var e *flow.Error
	if !errors.As(err, &e) {
		e = &flow.Error{Status: 502, Reason: reasonInternal, Detail: "Holdfast failed.", Cause: err}
	}
	head, body := problem(e, style{closing: true})
	if c.write(append(head, body...)) == nil {
		c.linger()
	}
	c.out.enter(outNothing)
}
