package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Sample makes a flow of a request as a person writes it down: raw HTTP/1, or a
// method and a URL in its first line, with LF or CRLF, with or without the
// version, the Host field, a Content-Length and the empty line at the end. One
// line end behind the body is dropped. The origin is that of the URL, or of the
// Host field; tls says how the latter is reached. Nothing else is added.
func Sample(text []byte, tls bool) (*flow.Flow, error) {
	head, body := splitMessage(text)
	first, rest, _ := strings.Cut(head, "\r\n")
	words := strings.Fields(first)
	switch len(words) {
	case 1:
		words = []string{"GET", words[0], "HTTP/1.1"}
	case 2:
		if strings.HasPrefix(words[1], "HTTP/") {
			return nil, errors.New("the request line has no URL")
		}
		words = append(words, "HTTP/1.1")
	case 3:
	default:
		return nil, errors.New("the request does not begin with a request line such as GET https://shop.example/account HTTP/1.1")
	}
	f := &flow.Flow{Tool: flow.ToolProxy}
	target := words[1]
	if i := strings.Index(target, "://"); i > 0 && words[0] != "CONNECT" && !strings.HasPrefix(target, "/") {
		u, err := originOf(target)
		if err != nil {
			return nil, err
		}
		f.Origin = u
		authority := target[i+3:]
		if at := strings.IndexAny(authority, "/?#"); at >= 0 {
			authority, target = authority[:at], authority[at:]
		} else {
			target = "/"
		}
		target, _, _ = strings.Cut(target, "#")
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
		if !hasField(rest, "host") {
			rest = "Host: " + authority[strings.LastIndexByte(authority, '@')+1:] + "\r\n" + rest
		}
	}
	if len(body) > 0 && !hasField(rest, "content-length") && !hasField(rest, "transfer-encoding") {
		rest = strings.TrimSuffix(rest, "\r\n")
		if rest != "" {
			rest += "\r\n"
		}
		rest += "Content-Length: " + strconv.Itoa(len(body))
	}
	raw := words[0] + " " + target + " " + words[2] + "\r\n"
	if rest = strings.TrimSuffix(rest, "\r\n"); rest != "" {
		raw += rest + "\r\n"
	}
	req, err := wire.ParseRequest([]byte(raw + "\r\n"))
	if err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	f.Received, f.Request = req, req
	if f.Origin.Host == "" {
		scheme := "http://"
		if tls {
			scheme = "https://"
		}
		host := string(req.Host())
		if host == "" {
			return nil, errors.New("the request names no host: write the whole URL in its first line, or a Host field")
		}
		if f.Origin, err = originOf(scheme + host); err != nil {
			return nil, err
		}
	}
	if len(body) > 0 {
		framing, err := wire.RequestFraming(req)
		if err != nil || framing.Kind == wire.Length {
			framing = wire.Framing{Kind: wire.Length, Length: int64(len(body))}
		}
		f.RequestBody = wire.BytesBody(framing, body)
	}
	return f, nil
}

// SampleAnswer gives a flow of Sample its answer, as raw HTTP/1 written in the
// same way. The body is as long as it is written.
func SampleAnswer(f *flow.Flow, text []byte) error {
	head, body := splitMessage(text)
	first, rest, _ := strings.Cut(head, "\r\n")
	if strings.HasPrefix(first, "HTTP/") { // HTTP/2 200, as tools write it
		version, status, _ := strings.Cut(first, " ")
		if version == "HTTP/2" || version == "HTTP/2.0" || version == "HTTP/3" {
			version = "HTTP/1.1"
		}
		first = version + " " + status
		if !strings.Contains(strings.TrimSpace(status), " ") {
			first = strings.TrimSpace(first) + " "
		}
	}
	raw := first + "\r\n"
	if rest = strings.TrimSuffix(rest, "\r\n"); rest != "" {
		raw += rest + "\r\n"
	}
	resp, err := wire.ParseResponse([]byte(raw + "\r\n"))
	if err != nil {
		return fmt.Errorf("the response cannot be read: %w; it begins with a status line such as HTTP/1.1 200 OK", err)
	}
	f.Response = resp
	if len(body) > 0 {
		framing, err := wire.ResponseFraming(resp, f.Request.Method())
		if _, _, bad := wire.DecodeChunked(body, MaxFileSize); err != nil || framing.Kind != wire.Chunked || bad != nil {
			framing = wire.Framing{Kind: wire.Length, Length: int64(len(body))}
		}
		f.ResponseBody = wire.BytesBody(framing, body)
	}
	return nil
}

// splitMessage parts the head, whose lines then end in CRLF, from the body.
func splitMessage(text []byte) (head string, body []byte) {
	text = bytes.TrimLeft(text, "\r\n")
	end, next := len(text), len(text)
	for at := 0; at < len(text); {
		i := bytes.IndexByte(text[at:], '\n')
		if i < 0 {
			break
		}
		if line := bytes.TrimRight(text[at:at+i], "\r"); len(line) == 0 {
			end, next = at, at+i+1
			break
		}
		at += i + 1
	}
	head = strings.ReplaceAll(strings.ReplaceAll(string(text[:end]), "\r\n", "\n"), "\n", "\r\n")
	body = bytes.TrimSuffix(bytes.TrimSuffix(text[next:], []byte("\n")), []byte("\r"))
	return strings.TrimSuffix(head, "\r\n"), bytes.Clone(body)
}

func hasField(head, name string) bool {
	for line := range strings.SplitSeq(head, "\r\n") {
		if field, _, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(field), name) {
			return true
		}
	}
	return false
}

// originOf is the origin of a URL.
func originOf(text string) (flow.Origin, error) {
	authority := text
	if i := strings.Index(authority, "://"); i > 0 { // what a fuzzer writes behind it may be no URL
		if end := strings.IndexAny(authority[i+3:], "/?#"); end >= 0 {
			authority = authority[:i+3+end]
		}
	}
	u, err := url.Parse(authority)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return flow.Origin{}, errors.New("the URL is not one such as https://shop.example/account")
	}
	o := flow.Origin{TLS: u.Scheme == "https", Host: strings.ToLower(u.Hostname()), Port: 80}
	if o.TLS {
		o.Port = 443
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return o, errors.New("the port of the URL is no number from 1 to 65535")
		}
		o.Port = uint16(n)
	}
	if addr, err := netip.ParseAddr(o.Host); err == nil {
		o.Host = addr.String()
	}
	return o, nil
}
