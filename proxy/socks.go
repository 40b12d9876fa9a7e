package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/holdfast-proxy/holdfast/flow"
)

// SOCKS5 (RFC 1928) with user name and password (RFC 1929).
const (
	socksVersion     = 0x05
	socksAuthVersion = 0x01

	socksNoAuth   = 0x00
	socksPassword = 0x02
	socksNoMethod = 0xff

	socksConnect = 0x01
	socksIPv4    = 0x01
	socksName    = 0x03
	socksIPv6    = 0x04

	socksDone        = 0x00
	socksNotAllowed  = 0x02
	socksUnreachable = 0x04
	socksNoCommand   = 0x07
	socksNoAddress   = 0x08
)

// socks serves a client that speaks SOCKS5, and tells whether requests can be
// read from the connection. As with CONNECT, the origin is not dialled for the
// answer.
func (c *client) socks() bool {
	c.in.enter(inHandshake)
	origin, err := c.socksRequest()
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			c.complain(fmt.Errorf("SOCKS of %v: %w", c.raw.RemoteAddr(), err))
		}
		c.linger()
		return false
	}
	if why := c.s.passes(c.raw, origin); why != "" {
		f, err := c.open(origin, why)
		if err != nil {
			c.socksReply(socksUnreachable)
			c.complain(fmt.Errorf("SOCKS of %v to %s: %w", c.raw.RemoteAddr(), authorityText(origin), err))
			c.linger()
			return false
		}
		if c.socksReply(socksDone) == nil {
			c.carry(f, nil)
		} else {
			f.Upgraded.Close()
		}
		return false
	}
	return c.socksReply(socksDone) == nil && c.begin(origin)
}

// socksRequest takes part in everything up to the reply. Failures have been
// answered.
func (c *client) socksRequest() (origin flow.Origin, err error) {
	if err := c.socksGreeting(); err != nil {
		return origin, err
	}
	head, err := c.exactly(4)
	if err != nil {
		return origin, err
	}
	if head[0] != socksVersion {
		return origin, fmt.Errorf("version %d in the request", head[0])
	}
	host, err := c.socksHost(head[3])
	if err != nil {
		return origin, err
	}
	port, err := c.exactly(2)
	if err != nil {
		return origin, err
	}
	if head[1] != socksConnect {
		c.socksReply(socksNoCommand)
		return origin, fmt.Errorf("command %d is not supported; only CONNECT is", head[1])
	}
	if n := binary.BigEndian.Uint16(port); n > 0 {
		origin, err = c.find(false, []byte(fmt.Sprintf("%s:%d", host, n)))
	} else {
		err = errors.New("port 0 is none")
	}
	if err != nil {
		c.socksReply(socksNotAllowed)
	}
	return origin, err
}

// socksGreeting settles who the client is. User name and password are asked
// for whenever the client has them, since the name says identity and tool.
func (c *client) socksGreeting() error {
	head, err := c.exactly(2)
	if err != nil {
		return err
	}
	methods, err := c.exactly(int(head[1]))
	if err != nil {
		return err
	}
	method := byte(socksNoMethod)
	for _, m := range methods {
		if m == socksPassword || m == socksNoAuth && method != socksPassword && c.s.cfg.Password == "" {
			method = m
		}
	}
	if err := c.write([]byte{socksVersion, method}); err != nil {
		return err
	}
	switch method {
	case socksNoAuth:
		return nil
	case socksNoMethod:
		return errors.New("a user name and a password are needed, or no authentication, and the client offers neither")
	}
	name, password, err := c.socksCredentials()
	if err != nil {
		return err
	}
	c.seen = c.named(nil, name, password)
	if c.seen.denied {
		c.write([]byte{socksAuthVersion, 1})
		return errors.New("the password is wrong")
	}
	return c.write([]byte{socksAuthVersion, 0})
}

// socksCredentials is RFC 1929 §2.
func (c *client) socksCredentials() (name, password string, err error) {
	head, err := c.exactly(2)
	if err != nil {
		return "", "", err
	}
	if head[0] != socksAuthVersion {
		return "", "", fmt.Errorf("version %d of user name and password", head[0])
	}
	text, err := c.exactly(int(head[1]) + 1)
	if err != nil {
		return "", "", err
	}
	name = string(text[:len(text)-1])
	text, err = c.exactly(int(text[len(text)-1]))
	return name, string(text), err
}

// socksHost reads an address as it stands in an authority.
func (c *client) socksHost(kind byte) (string, error) {
	size := 0
	switch kind {
	case socksIPv4:
		size = net.IPv4len
	case socksIPv6:
		size = net.IPv6len
	case socksName:
		length, err := c.exactly(1)
		if err != nil {
			return "", err
		}
		name, err := c.exactly(int(length[0]))
		if ip := net.ParseIP(string(name)); ip != nil && ip.To4() == nil {
			return "[" + string(name) + "]", err
		}
		return string(name), err
	default:
		c.socksReply(socksNoAddress)
		return "", fmt.Errorf("address type %d", kind)
	}
	raw, err := c.exactly(size)
	if err != nil {
		return "", err
	}
	ip := net.IP(raw)
	if kind == socksIPv6 && ip.To4() == nil {
		return "[" + ip.String() + "]", nil
	}
	return ip.String(), nil
}

// socksReply says how a request went. The address that Holdfast would be bound
// to means nothing to the client: it is 0.0.0.0:0.
func (c *client) socksReply(code byte) error {
	err := c.write([]byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	c.out.enter(outNothing)
	return err
}

// exactly reads so many bytes, at most 256.
func (c *client) exactly(n int) ([]byte, error) {
	p := make([]byte, n)
	_, err := io.ReadFull(c.br, p)
	return p, err
}
