package h2

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// A WebSocket is opened by an Upgrade in HTTP/1.1 (RFC 6455 §4) and by extended
// CONNECT in HTTP/2 (RFC 8441 §5). Everything but how they say so is the same;
// key and accept are HTTP/1's alone.

// SocketTo2 gives a handshake of HTTP/1.1 the form of HTTP/2. notes are as with
// RequestTo2.
func SocketTo2(r *wire.Request, tls bool) (to *wire.Request, notes []string, err error) {
	plain, notes, err := RequestTo2(r, tls)
	if err != nil {
		return nil, notes, err
	}
	to = new(wire.Request)
	to.Reset(wire.HTTP2)
	to.AppendField([]byte(":method"), []byte("CONNECT"), 0)
	to.AppendField([]byte(":protocol"), []byte("websocket"), 0)
	for i := range plain.NumFields() {
		name, value := plain.Field(i)
		if string(name) != ":method" && !isKey(name) {
			to.AppendField(name, value, plain.Flags(i))
		}
	}
	return to, notes, nil
}

// SocketTo1 gives a handshake of HTTP/2 the form of HTTP/1.1, with a key, which
// is 16 random bytes in base64 (RFC 6455 §4.1).
func SocketTo1(r *wire.Request, key string) (to *wire.Request, notes []string, err error) {
	get := r.Clone()
	if err := get.SetMethod([]byte("GET")); err != nil {
		return nil, nil, &ConvertError{err.Error()}
	}
	dropKeys(&get.Head)
	to, notes, err = RequestTo1(get, false)
	if err != nil {
		return nil, notes, err
	}
	for _, line := range [...][2]string{{"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Key", key}} {
		if err := to.Add(line[0], line[1]); err != nil {
			return nil, notes, &ConvertError{err.Error()}
		}
	}
	return to, notes, nil
}

// SocketAnswerTo2 gives the 101 to a handshake the form of HTTP/2: success is
// a 200 there (RFC 8441 §5).
func SocketAnswerTo2(r *wire.Response) (to *wire.Response, notes []string, err error) {
	plain, notes, err := ResponseTo2(r)
	if err != nil {
		return nil, notes, err
	}
	to = new(wire.Response)
	to.Reset(wire.HTTP2)
	to.AppendField([]byte(":status"), []byte("200"), 0)
	for i := range plain.NumFields() {
		name, value := plain.Field(i)
		if string(name) != ":status" && !isKey(name) {
			to.AppendField(name, value, plain.Flags(i))
		}
	}
	return to, notes, nil
}

// SocketAnswerTo1 gives the success of a handshake by HTTP/2 the form of a 101.
// accept answers the client's key; "" for a client that sent none.
func SocketAnswerTo1(r *wire.Response, accept string) (to *wire.Response, notes []string, err error) {
	b := []byte("HTTP/1.1 " + strconv.Itoa(101) + " " + Phrase(101) + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
	if accept != "" {
		b = append(b, "Sec-WebSocket-Accept: "+accept+"\r\n"...)
	}
	from := r.Clone()
	dropKeys(&from.Head)
	b, _, notes, err = fieldsTo1(b, &from.Head, nil)
	if err != nil {
		return nil, notes, err
	}
	to, err = wire.ParseResponse(append(b, "\r\n"...))
	if err != nil {
		return nil, notes, &ConvertError{err.Error()}
	}
	to.Del("Content-Length") // RFC 9110 §8.6: not in a 101
	return to, notes, nil
}

func dropKeys(h *wire.Head) {
	h.Del("Sec-WebSocket-Key")
	h.Del("Sec-WebSocket-Accept")
}

// isKey names the fields of a handshake that HTTP/2 does not need.
func isKey(name []byte) bool {
	lower := strings.ToLower(string(bytes.TrimSpace(name)))
	return lower == "sec-websocket-key" || lower == "sec-websocket-accept"
}
