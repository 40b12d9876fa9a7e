package convert

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
)

// harEntry is what is read of an entry: HAR 1.2, and what browsers and proxies
// write beside it, whose names begin with an underscore.
type harEntry struct {
	StartedDateTime string
	Request         harRequest
	Response        harResponse
	ResourceType    string `json:"_resourceType"`
	Messages        []struct {
		Type string
	} `json:"_webSocketMessages"`
}

type harRequest struct {
	Method   string
	URL      string
	Headers  []harPair
	Cookies  []harPair
	PostData *harPost
	Size     float64 `json:"bodySize"`
}

type harPair struct{ Name, Value string }

type harPost struct {
	MimeType string
	Text     string
	Encoding string // of nobody's standard; Holdfast and some others write "base64"
	Params   []struct {
		Name, Value, FileName, ContentType string
	}
}

type harResponse struct {
	Status     float64
	StatusText string
	Headers    []harPair
	Cookies    []harPair
	Content    struct {
		Size     float64
		MimeType string
		Text     *string
		Encoding string
	}
	Error string `json:"_error"`
}

// entryReader fails where one entry of a file is too large: the decoder keeps a
// whole one in memory.
type entryReader struct {
	in   io.Reader
	left int
}

func (r *entryReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("an entry is larger than %d MiB; export without the bodies of downloads", MaxEntry>>20)
	}
	n, err := r.in.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// ReadHAR reads an HTTP Archive, one entry at a time.
func ReadHAR(in io.Reader) (*Recording, error) {
	h := &harReader{out: &Recording{Format: FormatHAR}, in: &entryReader{in: in, left: MaxEntry}}
	h.json = json.NewDecoder(skipBOM(h.in))
	if err := h.object(func(key string) error {
		if key != "log" {
			return h.skip()
		}
		h.log = true
		return h.object(h.logKey)
	}); err != nil {
		return nil, harError(h.json, err)
	}
	if !h.log {
		return nil, fmt.Errorf("%w: the JSON has no log; give a file that a browser or a proxy exported as HAR", ErrFormat)
	}
	h.out.sanitized(h.cookies)
	slices.SortStableFunc(h.out.Exchanges, func(a, b Exchange) int {
		if a.Time.IsZero() || b.Time.IsZero() {
			return 0
		}
		return a.Time.Compare(b.Time)
	})
	return h.out, nil
}

func skipBOM(in io.Reader) io.Reader {
	first := make([]byte, 3)
	n, err := io.ReadFull(in, first)
	if err == nil && string(first) == "\xef\xbb\xbf" {
		return in
	}
	return io.MultiReader(bytes.NewReader(first[:n]), in)
}

func harError(d *json.Decoder, err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends in the middle; export it again")
	}
	return fmt.Errorf("the HAR cannot be read at byte %d: %w", d.InputOffset(), err)
}

type harReader struct {
	out     *Recording
	in      *entryReader
	json    *json.Decoder
	log     bool
	cookies bool // some entry shows a cookie or a credential
	full    bool
}

// object reads an object key by key.
func (h *harReader) object(read func(key string) error) error {
	if err := h.delim('{'); err != nil {
		return err
	}
	for h.json.More() {
		token, err := h.json.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if err := read(key); err != nil {
			return err
		}
	}
	return h.delim('}')
}

func (h *harReader) delim(want json.Delim) error {
	token, err := h.json.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("there is no %v where HAR has one", want)
	}
	return nil
}

func (h *harReader) skip() error {
	var nothing json.RawMessage
	return h.json.Decode(&nothing)
}

func (h *harReader) logKey(key string) error {
	switch key {
	case "creator":
		var creator struct{ Name, Version string }
		if err := lenient(h.json.Decode(&creator)); err != nil {
			return err
		}
		h.out.Creator = strings.TrimSpace(creator.Name + " " + creator.Version)
		return nil
	case "entries":
	default:
		return h.skip()
	}
	if err := h.delim('['); err != nil {
		return err
	}
	for number := 1; h.json.More(); number++ {
		h.in.left = MaxEntry
		var e harEntry
		err := h.json.Decode(&e)
		if lenient(err) != nil {
			return err
		}
		if err != nil {
			h.out.lose(number, "a value is not of the kind that HAR has there, and was left out")
		}
		if !h.full {
			h.entry(number, &e)
		}
	}
	return h.delim(']')
}

// lenient is err, unless it is of one value that is of another kind than it
// should be: the decoder has read the rest then.
func lenient(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return nil
	}
	return err
}

func (h *harReader) entry(number int, e *harEntry) {
	out := h.out
	x := Exchange{Entry: number, Kind: strings.ToLower(e.ResourceType)}
	x.Time, _ = time.Parse(time.RFC3339Nano, e.StartedDateTime)
	if x.Time.IsZero() && e.StartedDateTime != "" {
		x.Time, _ = time.Parse("2006-01-02T15:04:05.999-0700", e.StartedDateTime)
	}
	fields := h.pairs(e.Request.Headers)
	if !has(fields, "cookie") && len(e.Request.Cookies) > 0 {
		var all []string
		for _, c := range e.Request.Cookies {
			all = append(all, c.Name+"="+c.Value)
		}
		fields = append(fields, pair{"Cookie", strings.Join(all, "; ")})
	}
	var err error
	if x.Request, x.URL, err = newRequest(e.Request.Method, e.Request.URL, fields); err != nil {
		out.lose(number, "left out: %v", err)
		return
	}
	if p := e.Request.PostData; p != nil {
		var why string
		if x.RequestBody, why = p.body(x.Request.Combined("Content-Type")); why != "" {
			out.lose(number, "%s", why)
		}
	} else if e.Request.Size > 0 {
		out.lose(number, "the body of the request was not recorded")
	}
	h.answer(number, e, &x)
	if len(e.Messages) > 0 {
		x.Kind = "websocket"
		out.lose(number, "%d messages on a WebSocket", len(e.Messages))
	}
	h.full = !out.add(x)
}

func (h *harReader) answer(number int, e *harEntry, x *Exchange) {
	r := &e.Response
	if r.Status == 0 {
		why := "no answer was recorded"
		if r.Error != "" {
			why += ": " + oneLine(r.Error)
		}
		h.out.lose(number, "%s", why)
		return
	}
	fields := h.pairs(r.Headers)
	if !has(fields, "set-cookie") {
		for _, c := range r.Cookies {
			fields = append(fields, pair{"Set-Cookie", c.Name + "=" + c.Value + "; Path=/"})
		}
		if len(r.Cookies) > 0 {
			h.cookies = true
			h.out.lose(number, "the attributes of the cookies that the answer sets")
		}
	}
	resp, err := newResponse(int(r.Status), r.StatusText, fields)
	if err != nil {
		h.out.lose(number, "the answer: %v", err)
		return
	}
	x.Response = resp
	switch {
	case r.Content.Text == nil:
		x.BodyMissing = r.Content.Size > 0
	case strings.EqualFold(r.Content.Encoding, "base64"):
		raw, err := base64.StdEncoding.DecodeString(*r.Content.Text)
		if err != nil {
			h.out.lose(number, "the body of the answer: it is no base64")
			x.BodyMissing = true
			return
		}
		x.ResponseBody = decoded(resp, raw)
	default:
		x.ResponseBody = []byte(*r.Content.Text)
		x.BodyMissing = len(x.ResponseBody) == 0 && r.Content.Size > 0
	}
	if x.BodyMissing {
		h.out.lose(number, "the body of the answer was not recorded")
	}
}

func (h *harReader) pairs(list []harPair) []pair {
	fields := make([]pair, 0, len(list))
	for _, f := range list {
		switch strings.ToLower(f.Name) {
		case "cookie", "set-cookie", "authorization":
			h.cookies = true
		}
		fields = append(fields, pair{f.Name, f.Value})
	}
	return fields
}

func has(fields []pair, name string) bool {
	return slices.ContainsFunc(fields, func(f pair) bool { return strings.EqualFold(f.name, name) })
}

// sanitized tells of a recording from which the browser has taken the secrets:
// Chromium does by default since version 130.
func (r *Recording) sanitized(cookies bool) {
	if !cookies && len(r.Exchanges) > 1 && strings.Contains(r.Creator, "WebInspector") {
		r.lose(0, "no cookie and no Authorization is in it; if the application has some, export the HAR with sensitive data")
	}
}

// body is what was posted; why says what is missing of it.
func (p *harPost) body(contentType []byte) (body []byte, why string) {
	media := string(contentType)
	if media == "" {
		media = p.MimeType
	}
	kind, params, _ := mime.ParseMediaType(media)
	switch {
	case strings.EqualFold(p.Encoding, "base64") && p.Text != "":
		raw, err := base64.StdEncoding.DecodeString(p.Text)
		if err != nil {
			return nil, "the body of the request: it is no base64"
		}
		return raw, ""
	case p.Text != "":
		if strings.ContainsRune(p.Text, '\ufffd') {
			why = "bytes of the request's body that are no text"
		}
		return []byte(p.Text), why
	case len(p.Params) == 0:
		return nil, ""
	case kind == "multipart/form-data" && params["boundary"] != "":
		return p.multipart(params["boundary"])
	}
	var b strings.Builder
	for i, f := range p.Params {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(escapeOnce(f.Name) + "=" + escapeOnce(f.Value))
	}
	return []byte(b.String()), ""
}

// escapeOnce encodes a parameter that the writer has decoded; Chromium leaves
// them encoded.
func escapeOnce(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil && plain != s && url.QueryEscape(plain) == s {
		return s
	}
	return url.QueryEscape(s)
}

func (p *harPost) multipart(boundary string) (body []byte, why string) {
	var b bytes.Buffer
	for _, f := range p.Params {
		part := formPart{name: f.Name, file: f.FileName, media: f.ContentType, content: f.Value}
		if f.FileName != "" && f.Value == "" {
			why = "the content of an uploaded file"
		}
		part.write(&b, boundary)
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.Bytes(), why
}

// formPart is a part of a multipart/form-data body (RFC 7578).
type formPart struct{ name, file, media, content string }

func (p formPart) write(b *bytes.Buffer, boundary string) {
	quote := strings.NewReplacer(`"`, "%22", "\r", "%0D", "\n", "%0A")
	fmt.Fprintf(b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"", boundary, quote.Replace(p.name))
	if p.file != "" {
		fmt.Fprintf(b, `; filename="%s"`, quote.Replace(p.file))
	}
	if p.media != "" {
		b.WriteString("\r\nContent-Type: " + oneLine(p.media))
	}
	b.WriteString("\r\n\r\n" + p.content + "\r\n")
}
