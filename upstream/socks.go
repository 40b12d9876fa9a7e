package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"

	"github.com/holdfast-proxy/holdfast/flow"
)

// What RFC 1928 and RFC 1929 call things.
const (
	socksVersion  = 5
	socksNoLogin  = 0
	socksPassword = 2
	socksNone     = 0xff
	socksConnect  = 1
	socksIPv4     = 1
	socksName     = 3
	socksIPv6     = 4

	socksLoginVersion = 1
	socksMaxText      = 255 // bytes of a name, a user or a password
)

// socksError is an answer that is not SOCKS 5.
type socksError struct{ what string }

func (e *socksError) Error() string { return e.what }

// openSOCKS has the proxy connect to the way's address (RFC 1928 §3, §4). It
// reads no byte beyond the proxy's answer.
func (p *Pool) openSOCKS(ctx context.Context, rw net.Conn, w *way) error {
	if err := socksLogin(rw, w.proxy); err != nil {
		return err
	}
	host, portString, err := net.SplitHostPort(w.address)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(portString, 10, 16)
	if err != nil {
		return err
	}
	if w.proxy.Scheme == SchemeSOCKS5 {
		if host, err = resolve(ctx, host); err != nil {
			return &flow.Error{Status: 502, Reason: flow.ReasonUnreachable, Cause: err,
				Detail: fmt.Sprintf("The name of %s does not resolve.", w.address),
				Next:   "Have the proxy resolve names: write socks5h:// in place of socks5://."}
		}
	}
	request := []byte{socksVersion, socksConnect, 0}
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap().WithZone("")
		kind := byte(socksIPv4)
		if addr.Is6() {
			kind = socksIPv6
		}
		request = append(append(request, kind), addr.AsSlice()...)
	} else {
		if len(host) > socksMaxText {
			return &flow.Error{Status: 502, Reason: flow.ReasonProxyRefused,
				Detail: "The name of the origin is longer than SOCKS can say (RFC 1928 §5).", Next: "Reach the host without the proxy."}
		}
		request = append(append(request, socksName, byte(len(host))), host...)
	}
	if _, err := rw.Write(append(request, byte(port>>8), byte(port))); err != nil {
		return err
	}
	return socksAnswer(rw, w)
}

// resolve is the first address of a name.
func resolve(ctx context.Context, host string) (string, error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	return all[0].Unmap().String(), nil
}

// socksLogin agrees on a method and logs in (RFC 1928 §3, RFC 1929).
func socksLogin(rw net.Conn, proxy *Proxy) error {
	greeting := []byte{socksVersion, 1, socksNoLogin}
	if proxy.hasCredentials() {
		if len(proxy.User) > socksMaxText || len(proxy.Password) > socksMaxText {
			return loginError(proxy, "user or password is longer than SOCKS can say")
		}
		greeting = []byte{socksVersion, 2, socksNoLogin, socksPassword}
	}
	if _, err := rw.Write(greeting); err != nil {
		return err
	}
	var answer [2]byte
	if err := socksRead(rw, answer[:]); err != nil {
		return err
	}
	switch {
	case answer[0] != socksVersion:
		return &socksError{"its first byte is not 5"}
	case answer[1] == socksNoLogin:
		return nil
	case answer[1] == socksNone && proxy.hasCredentials():
		return loginError(proxy, "it takes neither none nor a password")
	case answer[1] == socksNone:
		return loginError(proxy, "it wants credentials")
	case answer[1] != socksPassword || !proxy.hasCredentials():
		return &socksError{"it chose a method that was not offered"}
	}
	login := append([]byte{socksLoginVersion, byte(len(proxy.User))}, proxy.User...)
	login = append(append(login, byte(len(proxy.Password))), proxy.Password...)
	if _, err := rw.Write(login); err != nil {
		return err
	}
	if err := socksRead(rw, answer[:]); err != nil {
		return loginError(proxy, "it closed the connection on the credentials")
	}
	if answer[1] != 0 {
		return loginError(proxy, "it does not take the credentials")
	}
	return nil
}

func loginError(proxy *Proxy, what string) error {
	next := "Name a user and a password in the proxy's URL."
	if proxy.hasCredentials() {
		next = "Correct the user and the password in the proxy's URL."
	}
	return &flow.Error{Status: 502, Reason: flow.ReasonProxyLogin, Next: next,
		Detail: fmt.Sprintf("The proxy %s does not let us in: %s.", proxy, what)}
}

// socksRead reads all of p.
func socksRead(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &socksError{"it closed the connection"}
	}
	return err
}

// socksAnswer reads the reply with the address that nobody needs (RFC 1928 §6).
func socksAnswer(rw net.Conn, w *way) error {
	var head [4]byte
	if err := socksRead(rw, head[:]); err != nil {
		return err
	}
	if head[0] != socksVersion {
		return &socksError{"its answer does not begin with 5"}
	}
	if head[1] != 0 {
		return &flow.Error{Status: 502, Reason: flow.ReasonProxyRefused,
			Detail: fmt.Sprintf("The proxy %s does not open a way to %s: %s.", w.proxy, w.address, socksReason(head[1])),
			Next:   "Check that the origin can be reached from where the proxy runs, or reach it without: direct: in the configuration."}
	}
	length := 0
	switch head[3] {
	case socksIPv4:
		length = 4
	case socksIPv6:
		length = 16
	case socksName:
		var n [1]byte
		if err := socksRead(rw, n[:]); err != nil {
			return err
		}
		length = int(n[0])
	default:
		return &socksError{"its answer has an address of no known kind"}
	}
	return socksRead(rw, make([]byte, length+2))
}

// socksReason is RFC 1928 §6.
func socksReason(code byte) string {
	switch code {
	case 1:
		return "it failed"
	case 2:
		return "its rules forbid it"
	case 3:
		return "the network is unreachable"
	case 4:
		return "the host is unreachable"
	case 5:
		return "the connection was refused"
	case 6:
		return "the connection took too long"
	case 7, 8:
		return "it does not do that"
	}
	return "code " + strconv.Itoa(int(code))
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }
