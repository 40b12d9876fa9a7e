package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// guid is appended to the key of a handshake (RFC 6455 §1.3).
const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Accept is the value of Sec-WebSocket-Accept that answers a key.
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + guid))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Deflate are the parameters of permessage-deflate for one direction (RFC 7692
// §7.1). The zero value is what holds when none is given.
type Deflate struct {
	NoContext  bool // each message is compressed on its own
	WindowBits int  // 8 to 15; 0 is 15
}

// A Handshake is what the two heads agree on.
type Handshake struct {
	// Client and Origin are permessage-deflate for what either sends; nil
	// when it was not agreed on.
	Client, Origin *Deflate
	// Unknown is the name of another extension that the origin has accepted,
	// or of a parameter that RFC 7692 does not have.
	Unknown string
	// BadAccept says that Sec-WebSocket-Accept is missing or does not fit the
	// key: a client that looks at it goes no further. HTTP/2 has neither.
	BadAccept bool
}

// Asks tells whether a request is a handshake: Upgrade: websocket (RFC 6455
// §4.1), or in HTTP/2 extended CONNECT with that protocol (RFC 8441 §5).
func Asks(req *wire.Request) bool {
	if req.Proto() != wire.HTTP2 {
		return req.HasToken("Upgrade", "websocket")
	}
	protocol, _ := req.Get(":protocol")
	return strings.EqualFold(string(protocol), "websocket") && string(req.Method()) == "CONNECT"
}

// Upgraded tells whether an answer makes a WebSocket of its connection or
// stream: to a request that asked for it a 101 for the same (RFC 6455 §4.2.2),
// or in HTTP/2 success (RFC 8441 §5). The two heads may be of different versions
// where somebody in between has converted.
func Upgraded(req *wire.Request, resp *wire.Response) (h Handshake, ok bool) {
	if !Asks(req) || !agrees(resp) {
		return h, false
	}
	if req.Proto() != wire.HTTP2 && resp.Proto() != wire.HTTP2 {
		key, _ := req.Get("Sec-WebSocket-Key")
		h.BadAccept = !Accepts(resp, string(key))
	}
	h.extensions(string(resp.Combined("Sec-WebSocket-Extensions")))
	return h, true
}

func agrees(resp *wire.Response) bool {
	if resp.Proto() == wire.HTTP2 {
		return resp.Status()/100 == 2
	}
	return resp.Status() == 101 && resp.HasToken("Upgrade", "websocket")
}

// Accepts tells whether an answer's Sec-WebSocket-Accept fits the key.
func Accepts(resp *wire.Response, key string) bool {
	accept, _ := resp.Get("Sec-WebSocket-Accept")
	return string(accept) == Accept(key)
}

// extensions reads what the origin has accepted (RFC 6455 §9.1). A quoted
// value may not hold a delimiter, since it must be a token without its quotes.
func (h *Handshake) extensions(list string) {
	for one := range strings.SplitSeq(list, ",") {
		name, params, _ := strings.Cut(one, ";")
		name = strings.TrimSpace(name)
		switch {
		case name == "":
		case strings.EqualFold(name, "permessage-deflate") && h.Client == nil:
			h.Client, h.Origin = new(Deflate), new(Deflate)
			h.parameters(params)
		default:
			h.Unknown = name
		}
	}
}

func (h *Handshake) parameters(list string) {
	for one := range strings.SplitSeq(list, ";") {
		name, value, _ := strings.Cut(one, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch name {
		case "":
		case "server_no_context_takeover":
			h.Origin.NoContext = true
		case "client_no_context_takeover":
			h.Client.NoContext = true
		case "server_max_window_bits":
			h.Origin.WindowBits = windowBits(value)
		case "client_max_window_bits":
			h.Client.WindowBits = windowBits(value)
		default:
			h.Unknown = name
		}
	}
}

// windowBits is 0 for what RFC 7692 §7.1.2 does not allow: the largest window
// inflates everything.
func windowBits(value string) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < 8 || n > 15 {
		return 0
	}
	return n
}
