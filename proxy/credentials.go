package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// challenge asks for credentials (RFC 9110 §11.7.1, RFC 7617 §2).
const challenge = "Proxy-Authenticate: Basic realm=\"holdfast\", charset=\"UTF-8\"\r\n"

// maxCredentials is how long credentials may be, in bytes, that are looked at:
// a connection keeps the last ones.
const maxCredentials = 8 << 10

func deniedError() error {
	return &flow.Error{Status: 407, Reason: flow.ReasonProxyPassword,
		Detail: "Holdfast was started with a password, and the proxy credentials do not have it.",
		Next:   "Set the client's proxy to http://IDENTITY+TOOL:PASSWORD@HOST:PORT; identity and tool may be left out."}
}

// nobody is whom requests without credentials come from.
func (c *client) nobody() caller {
	return caller{identity: c.entry.Identity, tool: c.entry.Tool, denied: c.s.cfg.Password != ""}
}

// named is whom a user name means: IDENTITY+TOOL, IDENTITY or +TOOL.
func (c *client) named(credentials []byte, name, password string) caller {
	who := c.nobody()
	who.credentials = credentials
	if who.denied {
		if who.denied = !sameText(password, c.s.cfg.Password); who.denied {
			return who
		}
	}
	identity, tool := name, ""
	if i := strings.LastIndexByte(name, '+'); i >= 0 {
		identity, tool = name[:i], name[i+1:]
	}
	who.identity, who.tool = or(identity, c.entry.Identity), or(tool, c.entry.Tool)
	return who
}

// sameText compares without telling by its duration how much is the same, or
// how long either text is.
func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// recognize takes the credentials of a request apart, unless they are those of
// the request before.
func (c *client) recognize(r *wire.Request) {
	value, _ := r.Get("Proxy-Authorization")
	if bytes.Equal(value, c.seen.credentials) {
		return
	}
	c.seen = c.nobody()
	if len(value) > maxCredentials {
		return
	}
	c.seen.credentials = bytes.Clone(value)
	scheme, text, _ := bytes.Cut(value, []byte(" "))
	if !strings.EqualFold(string(scheme), "Basic") {
		return
	}
	plain, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return
	}
	name, password, _ := strings.Cut(string(plain), ":")
	c.seen = c.named(c.seen.credentials, name, password)
}
