package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// sessionTickets is for how many origins TLS resumption is remembered
// (RFC 8446 §2.2): it saves both sides the signature of a handshake.
const sessionTickets = 1024

// tlsConfig is what all connections share; dial adds the name.
func (p *Pool) tlsConfig() *tls.Config {
	cfg := &tls.Config{
		MinVersion:         p.cfg.MinTLS,
		InsecureSkipVerify: p.cfg.Insecure,
		ClientSessionCache: tls.NewLRUClientSessionCache(sessionTickets),
		// Small first records are for browsers that render early. Here each
		// record is a system call on this side and one on the other.
		DynamicRecordSizingDisabled: true,
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	if len(p.cfg.Roots) > 0 {
		cfg.RootCAs = trust(nil, p.cfg.Roots)
	}
	return cfg
}

// address is host:port for messages and for dialling.
func address(o flow.Origin) string {
	return net.JoinHostPort(o.Host, strconv.Itoa(int(o.Port)))
}

// dial makes a new connection to the flow's origin, on which by ALPN (RFC
// 7301) the protocols are offered.
func (p *Pool) dial(ctx context.Context, k key, offer []string) (*conn, error) {
	way := p.routes.to(k.origin, k.identity)
	raw, err := p.hop(ctx, k, way)
	if err != nil {
		return nil, err
	}
	c := &conn{pool: p, key: k, raw: raw, rw: raw}
	if err := p.add(c); err != nil {
		raw.Close()
		return nil, closingError(err)
	}
	if err := p.through(ctx, c, way); err != nil {
		return nil, err
	}
	if k.origin.TLS {
		secured := tls.Client(c.rw, p.tlsFor(way, k.origin, k.identity, offer))
		shaking, cancel := limited(ctx, p.limits.Handshake)
		err := secured.HandshakeContext(shaking)
		cancel()
		if err != nil {
			c.close()
			return nil, p.handshakeError(ctx, address(k.origin), c.why(err))
		}
		c.mu.Lock()
		c.rw = secured
		c.mu.Unlock()
	}
	c.br = wire.NewReader(c, p.limits.Message)
	c.br.OnLarge(c.takeLarge)
	return c, nil
}

// limited is ctx with a time limit, unless that is negative.
func limited(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d < 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}
