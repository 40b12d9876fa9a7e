package convert

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// ParseRaw reads one raw request, as a person or a tool wrote it into a file:
// with LF or CRLF, with or without a Host field where the target is a URL. tls
// says how a host without a scheme is reached.
func ParseRaw(text []byte, tls bool) (*Recording, error) {
	x, err := rawRequest(text, tls)
	if err != nil {
		return nil, fmt.Errorf("%w as a raw request: %w", ErrFormat, err)
	}
	x.Entry = 1
	out := &Recording{Format: FormatRaw}
	out.add(x)
	return out, nil
}

func rawRequest(text []byte, tls bool) (x Exchange, err error) {
	head, body := splitRaw(text)
	first, rest, _ := strings.Cut(head, "\r\n")
	words := strings.Fields(first)
	if len(words) == 2 && !strings.HasPrefix(words[1], "HTTP/") {
		words = append(words, "HTTP/1.1")
	}
	if len(words) != 3 || !strings.HasPrefix(words[2], "HTTP/") {
		return x, errors.New("line 1 is no request line such as POST /login HTTP/1.1")
	}
	fields, err := rawFields(rest)
	if err != nil {
		return x, err
	}
	target := words[1]
	if strings.HasPrefix(target, "/") {
		host := ""
		for _, f := range fields {
			if strings.EqualFold(f.name, "Host") {
				host = f.value
				break
			}
		}
		if host == "" {
			return x, errors.New("it names no host; add a Host field, or write the whole URL in its first line")
		}
		scheme := "http://"
		if tls {
			scheme = "https://"
		}
		target = scheme + host + target
	}
	if x.Request, x.URL, err = newRequest(words[0], target, fields); err != nil {
		return x, err
	}
	if x.Request.HasToken("Transfer-Encoding", "chunked") {
		if payload, _, err := wire.DecodeChunked(body, MaxBody); err == nil {
			body = payload
		}
	}
	if len(body) > 0 {
		x.RequestBody = body
	}
	return x, nil
}

func rawFields(head string) ([]pair, error) {
	var fields []pair
	number := 1
	for line := range strings.SplitSeq(head, "\r\n") {
		number++
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d is no field: it has no colon", number)
		}
		fields = append(fields, pair{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return fields, nil
}

// splitRaw parts head and body. A file has a line end at its end that the body
// of a form or of JSON never had.
func splitRaw(text []byte) (head string, body []byte) {
	text = bytes.TrimLeft(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), "\r\n")
	crlf, lf := bytes.Index(text, []byte("\r\n\r\n")), bytes.Index(text, []byte("\n\n"))
	switch {
	case crlf >= 0 && (lf < 0 || crlf < lf):
		head, body = string(text[:crlf]), text[crlf+4:]
	case lf >= 0:
		head, body = string(text[:lf]), bytes.TrimSuffix(text[lf+2:], []byte("\n"))
	default:
		head = string(text)
	}
	head = strings.ReplaceAll(strings.ReplaceAll(head, "\r\n", "\n"), "\n", "\r\n")
	return strings.TrimSuffix(head, "\r\n"), bytes.Clone(body)
}

// rawResponse reads a raw answer, as it came over the wire or as a tool shows
// it.
func rawResponse(text []byte) (*wire.Response, []byte, error) {
	head, body := splitRaw(text)
	first, rest, _ := strings.Cut(head, "\r\n")
	version, status, _ := strings.Cut(first, " ")
	code, reason, _ := strings.Cut(strings.TrimSpace(status), " ")
	var n int
	if _, err := fmt.Sscanf(code, "%d", &n); err != nil || !strings.HasPrefix(version, "HTTP/") {
		return nil, nil, errors.New("it does not begin with a status line")
	}
	fields, err := rawFields(rest)
	if err != nil {
		return nil, nil, err
	}
	resp, err := newResponse(n, reason, fields)
	if err != nil {
		return nil, nil, err
	}
	if resp.HasToken("Transfer-Encoding", "chunked") {
		if payload, _, err := wire.DecodeChunked(body, MaxBody); err == nil {
			body = payload
		}
	}
	return resp, decoded(resp, body), nil
}
