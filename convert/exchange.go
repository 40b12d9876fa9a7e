package convert

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/wire"
)

// The limits of a recording.
const (
	MaxExchanges = 10_000
	MaxBody      = 4 << 20   // bytes of one body that are kept
	MaxBodies    = 256 << 20 // bytes of all of them
	MaxEntry     = 96 << 20  // bytes of one entry of a file
	MaxText      = 16 << 20  // bytes of a curl command line or a raw request
)

// The formats that Read knows.
const (
	FormatHAR  = "har"
	FormatCurl = "curl"
	FormatBurp = "burp"
	FormatRaw  = "raw"
)

// Exchange is one request with its answer, as a tool recorded it.
type Exchange struct {
	Entry int       // its number in the recording, from 1
	Time  time.Time // zero: not recorded
	URL   string    // absolute, without a fragment, as it was written
	// Request has an origin-form target and a Host field; RequestBody is its
	// payload, nil for none.
	Request     *wire.Request
	RequestBody []byte
	// Response is nil where no answer was recorded. ResponseBody is its payload
	// without chunks and content codings, whatever the head says.
	Response     *wire.Response
	ResponseBody []byte
	// BodyMissing: the answer had a body, or more of one, than was recorded.
	BodyMissing bool
	// Kind is what a browser calls the resource ("document", "xhr", "image",
	// "websocket", …); "" where nobody said.
	Kind string
}

// Lost is something that could not be carried over.
type Lost struct {
	Entry int    // of the exchange, from 1; 0: of the whole recording
	What  string // never a value
}

// String is the loss with its place.
func (l Lost) String() string {
	if l.Entry == 0 {
		return l.What
	}
	return "entry " + strconv.Itoa(l.Entry) + ": " + l.What
}

// Recording is what a file holds.
type Recording struct {
	Format    string
	Creator   string // the program that wrote it; "" unknown
	Exchanges []Exchange
	Lost      []Lost
	// Insecure: the command line said that certificates are not looked at.
	Insecure bool

	kept int // bytes of bodies
}

func (r *Recording) lose(entry int, format string, args ...any) {
	const most = 1000
	switch {
	case len(r.Lost) < most:
		r.Lost = append(r.Lost, Lost{entry, fmt.Sprintf(format, args...)})
	case len(r.Lost) == most:
		r.Lost = append(r.Lost, Lost{0, "more was lost than is listed"})
	}
}

// add appends an exchange, within the limits; false says that no more is taken.
func (r *Recording) add(x Exchange) bool {
	if len(r.Exchanges) >= MaxExchanges {
		r.lose(0, "only the first %d exchanges were read", MaxExchanges)
		return false
	}
	x.RequestBody, _ = r.keep(x.Entry, "request", x.RequestBody)
	var cut bool
	x.ResponseBody, cut = r.keep(x.Entry, "answer", x.ResponseBody)
	x.BodyMissing = x.BodyMissing || cut
	r.Exchanges = append(r.Exchanges, x)
	return true
}

func (r *Recording) keep(entry int, of string, body []byte) (kept []byte, cut bool) {
	limit := min(MaxBody, MaxBodies-r.kept)
	if len(body) > limit {
		r.lose(entry, "the body of the %s is longer than what is kept of one (%d MiB) or of all (%d MiB)", of, MaxBody>>20, MaxBodies>>20)
		body, cut = bytes.Clone(body[:limit]), true
	}
	r.kept += len(body)
	return body, cut
}

// ErrFormat is wrapped by errors about input that is of no known format.
var ErrFormat = errors.New("this is no recording that can be read")

// Options say what the input cannot.
type Options struct {
	// Plain: a raw request that names no scheme is for http.
	Plain bool
}

// Read reads a recording of any of the formats. Errors say what is wrong, and
// where.
func Read(in io.Reader, o Options) (*Recording, error) {
	b := bufio.NewReaderSize(in, 64<<10)
	first, err := b.Peek(512)
	if len(first) == 0 && err != nil && err != io.EOF {
		return nil, fmt.Errorf("the recording cannot be read: %w", err)
	}
	switch look := bytes.TrimLeft(bytes.TrimPrefix(first, []byte("\xef\xbb\xbf")), " \t\r\n"); {
	case len(look) == 0:
		return nil, fmt.Errorf("%w: it is empty; give a HAR, Burp's saved items, a raw request or a curl command line", ErrFormat)
	case look[0] == '{':
		return ReadHAR(b)
	case bytes.HasPrefix(look, []byte("<?xml")), bytes.HasPrefix(look, []byte("<items")), bytes.HasPrefix(look, []byte("<!DOCTYPE items")):
		return ReadBurp(b)
	}
	raw, err := io.ReadAll(io.LimitReader(b, MaxText+1))
	if err != nil {
		return nil, fmt.Errorf("the recording cannot be read: %w", err)
	}
	if len(raw) > MaxText {
		return nil, fmt.Errorf("%w: it is longer than %d MiB and no HAR", ErrFormat, MaxText>>20)
	}
	if isCurl(raw) {
		return ParseCurl(string(raw))
	}
	return ParseRaw(raw, !o.Plain)
}

// pair is a field of a head.
type pair struct{ name, value string }

// newRequest puts a request together from its parts: Host is added where it is
// missing; what cannot stand in a head is taken out.
func newRequest(method, rawURL string, fields []pair) (req *wire.Request, absolute string, err error) {
	scheme, authority, target, err := partURL(rawURL)
	if err != nil {
		return nil, "", err
	}
	if method == "" {
		method = "GET"
	}
	if strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, "", errors.New("the method is no word")
	}
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\n")
	hasHost := false
	for _, f := range fields {
		hasHost = hasHost || strings.EqualFold(f.name, "Host")
	}
	if !hasHost {
		b.WriteString("Host: " + authority + "\r\n")
	}
	writeFields(&b, fields)
	req, err = wire.ParseRequest([]byte(b.String() + "\r\n"))
	if err != nil {
		return nil, "", fmt.Errorf("the request's head cannot be read: %w", err)
	}
	return req, scheme + "://" + authority + target, nil
}

func newResponse(status int, reason string, fields []pair) (*wire.Response, error) {
	if status < 100 || status > 999 {
		return nil, fmt.Errorf("there is no status %d", status)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, oneLine(reason))
	writeFields(&b, fields)
	return wire.ParseResponse([]byte(b.String() + "\r\n"))
}

// writeFields leaves out the pseudo-header fields of HTTP/2 (RFC 9113 §8.3), and
// what is no field. Some browsers put several Set-Cookie into one value, a line
// each.
func writeFields(b *strings.Builder, fields []pair) {
	for _, f := range fields {
		if f.name == "" || strings.HasPrefix(f.name, ":") || strings.ContainsFunc(f.name, func(r rune) bool { return r <= ' ' || r == ':' || r >= 0x7f }) {
			continue
		}
		if strings.EqualFold(f.name, "Set-Cookie") {
			for line := range strings.SplitSeq(f.value, "\n") {
				b.WriteString(f.name + ": " + oneLine(line) + "\r\n")
			}
			continue
		}
		b.WriteString(strings.TrimSuffix(f.name+": "+oneLine(f.value), " ") + "\r\n")
	}
}

func oneLine(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == 0 {
			return ' '
		}
		return r
	}, s), " \t")
}

// partURL parts an absolute URL of http or https without reading more of it
// than its authority: a path may hold what no parser takes.
func partURL(raw string) (scheme, authority, target string, err error) {
	const next = "write it as https://host/path"
	scheme, rest, ok := strings.Cut(raw, "://")
	scheme = strings.ToLower(scheme)
	switch scheme {
	case "http", "https":
	case "ws", "wss": // a browser's word for a handshake
		scheme = "http" + strings.TrimPrefix(scheme, "ws")
	default:
		ok = false
	}
	if !ok {
		return "", "", "", errors.New("the URL is none of http or https; " + next)
	}
	authority, target = rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	if u, parseErr := url.Parse(scheme + "://" + authority); parseErr != nil || u.Hostname() == "" {
		return "", "", "", errors.New("the URL names no host; " + next)
	}
	target, _, _ = strings.Cut(target, "#")
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return scheme, authority, escapeTarget(target), nil
}

// escapeTarget writes what can stand in no request line as browsers do.
func escapeTarget(target string) string {
	if strings.IndexFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f }) < 0 {
		return target
	}
	var b strings.Builder
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decoded is a body without its content codings where it still has them: most
// formats keep what a browser shows, some what came over the wire.
func decoded(resp *wire.Response, body []byte) []byte {
	coding := resp.Combined("Content-Encoding")
	if len(coding) == 0 || len(body) == 0 {
		return body
	}
	if plain, err := wire.DecodeContent(coding, body, MaxBody); err == nil && len(plain) > 0 {
		return plain
	}
	return body
}

// Of makes an exchange of messages as they passed: heads of HTTP/2 too, the
// answer's payload with its content codings, which are undone. response may be
// nil. origin, as in https://shop.example:8443, says where the request went.
func Of(origin string, request *wire.Request, requestBody []byte, response *wire.Response, responseBody []byte) (Exchange, error) {
	x := Exchange{RequestBody: requestBody}
	target := string(request.Target())
	if !strings.HasPrefix(target, "/") {
		if _, _, t, err := partURL(target); err == nil {
			target = t
		} else {
			target = "/"
		}
	}
	var err error
	if x.Request, x.URL, err = newRequest(string(request.Method()), origin+target, pairsOf(&request.Head)); err != nil || response == nil {
		return x, err
	}
	if x.Response, err = newResponse(response.Status(), string(response.Reason()), pairsOf(&response.Head)); err != nil {
		return x, err
	}
	x.ResponseBody = decoded(x.Response, responseBody)
	return x, nil
}

func pairsOf(h *wire.Head) []pair {
	fields := make([]pair, 0, h.NumFields())
	for i := range h.NumFields() {
		name, value := h.Field(i)
		fields = append(fields, pair{string(name), string(value)})
	}
	return fields
}
