package archive

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-proxy/holdfast/redact"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

const (
	minKnown  = 6       // bytes of a value that is looked for in all places
	maxKnown  = 4 << 10 // likewise
	maxValues = 50_000  // of them
)

// hider takes credentials out of flows. Each byte of one becomes an asterisk, so
// that lengths stay. First it collects values, then, once it is ready, it hides:
// what is known from one flow is hidden in all.
type hider struct {
	host   string // of the flow that is read: it is no credential
	values map[string]bool
	more   bool
	known  *strings.Replacer // nil: it collects
}

func newHider() *hider { return &hider{values: make(map[string]bool)} }

// learn takes a value that is hidden wherever it stands.
func (h *hider) learn(value string) {
	switch strings.ToLower(value) {
	case "deleted", "expired", "invalid", "undefined", strings.ToLower(h.host):
		return
	}
	if h.known != nil || strings.Trim(value, "*") == "" || len(value) < minKnown || len(value) > maxKnown || h.values[value] {
		return
	}
	if len(h.values) >= maxValues {
		h.more = true
		return
	}
	h.values[strings.Clone(value)] = true
}

// learnCoded takes a value in the form in which it stands, and undone.
func (h *hider) learnCoded(value []byte) {
	h.learn(string(value))
	if plain, err := url.QueryUnescape(string(value)); err == nil {
		h.learn(plain)
	}
	var plain string
	if json.Unmarshal(slices.Concat([]byte{'"'}, value, []byte{'"'}), &plain) == nil {
		h.learn(plain)
	}
}

// row takes the values of a row of the state: those of members with that name,
// whether text or bytes.
func (h *hider) row(value []byte) {
	var v any
	if json.Unmarshal(value, &v) == nil {
		h.tree(v)
	}
}

func (h *hider) tree(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, of := range v {
			text, is := of.(string)
			if is && strings.EqualFold(name, "value") {
				h.learn(text)
				if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
					h.learn(string(raw))
				}
			}
			h.tree(of)
		}
	case []any:
		for _, of := range v {
			h.tree(of)
		}
	}
}

// ready ends the collecting.
func (h *hider) ready() {
	forms := make(map[string]bool)
	for s := range h.values {
		b := []byte(s)
		quoted, _ := json.Marshal(s) // a text can be
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), base64.StdEncoding.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b),
			base64.RawURLEncoding.EncodeToString(b), hex.EncodeToString(b), string(quoted[1 : len(quoted)-1])} {
			forms[form] = true
		}
	}
	all := make([]string, 0, len(forms))
	for form := range forms {
		all = append(all, form)
	}
	// The longest first: it may begin with another.
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	pairs := make([]string, 0, 2*len(all))
	for _, form := range all {
		pairs = append(pairs, form, strings.Repeat("*", len(form)))
	}
	h.known, h.values = strings.NewReplacer(pairs...), nil
}

// Text is a text without credentials.
func (h *hider) Text(text []byte) []byte {
	out := bytes.Clone(text)
	redact.Values(text, func(from, to int) {
		h.learnCoded(text[from:to])
		stars(out[from:to])
	})
	if h.known == nil {
		return text
	}
	return []byte(h.known.Replace(string(out)))
}

func stars(b []byte) {
	for i := range b {
		b[i] = '*'
	}
}

// Head is an HTTP/1 head without credentials.
func (h *hider) Head(head []byte) []byte {
	out := bytes.Clone(head)
	var name []byte
	for at, first := 0, true; at < len(out); first = false {
		end := len(out)
		if n := bytes.IndexByte(out[at:], '\n'); n >= 0 {
			end = at + n
		}
		line := bytes.TrimRight(out[at:end], "\r")
		if before, value, ok := bytes.Cut(line, []byte{':'}); !first && ok && (len(line) == 0 || line[0] != ' ' && line[0] != '\t') {
			name = bytes.TrimSpace(before)
			h.field(name, value)
		} else if !first { // a line that goes on
			h.field(name, line)
		}
		at = end + 1
	}
	return h.Text(out)
}

// Field is the value of a field without credentials.
func (h *hider) Field(name, value []byte) []byte {
	out := bytes.Clone(value)
	h.field(name, out)
	return h.Text(out)
}

// field hides in a value, in its place.
func (h *hider) field(name, value []byte) {
	lower := strings.ToLower(string(name))
	switch lower {
	case "cookie", "set-cookie":
		for _, pair := range bytes.Split(value, []byte{';'}) {
			key, of, named := bytes.Cut(pair, []byte{'='})
			if !named {
				of = key
			}
			of = bytes.TrimSpace(of)
			h.learnCoded(bytes.Trim(of, `"`))
			stars(of)
			if lower == "set-cookie" {
				return
			}
		}
	case "authorization", "proxy-authorization":
		of := bytes.TrimSpace(value)
		if scheme, rest, ok := bytes.Cut(of, []byte{' '}); ok {
			of = bytes.TrimSpace(rest)
			if plain, err := base64.StdEncoding.DecodeString(string(of)); err == nil && strings.EqualFold(string(scheme), "basic") {
				if _, password, ok := strings.Cut(string(plain), ":"); ok {
					h.learn(password)
				}
			}
		}
		h.learnCoded(of)
		stars(of)
	default:
		if redact.Name(name) {
			of := bytes.TrimSpace(value)
			h.learnCoded(of)
			stars(of)
		}
	}
}

// Body is a body without credentials: what is chunked is in one chunk then, and
// what is compressed is compressed anew. Where neither can be, nothing of it is
// left.
func (h *hider) Body(head *wire.Head, b *store.Body) *store.Body {
	out := *b
	payload, trailers, end := b.Raw, []byte(nil), false
	if b.Kind == wire.Chunked {
		var err error
		payload, trailers, err = wire.DecodeChunked(b.Raw, store.MaxText)
		end = err == nil
		if err != nil && len(payload) == 0 && len(b.Raw) > 0 {
			return h.without(out)
		}
	}
	hidden, ok := h.payload(head, payload)
	switch {
	case !ok:
		return h.without(out)
	case b.Kind != wire.Chunked:
		out.Raw = hidden
		return &out
	}
	out.Raw = wire.AppendChunk(nil, hidden)
	if end {
		lines := slices.Concat([]byte("\r\n"), trailers) // as if behind a first line
		out.Raw = wire.AppendLastChunk(out.Raw, h.Head(lines)[2:])
	} else {
		out.Cut = true
	}
	return &out
}

func (h *hider) without(b store.Body) *store.Body {
	b.Raw, b.Cut = nil, true
	return &b
}

// payload hides in a body, which it decodes for that. It is false where it
// cannot.
func (h *hider) payload(head *wire.Head, payload []byte) ([]byte, bool) {
	if !head.Has("Content-Encoding") || len(payload) == 0 {
		return h.Text(payload), true
	}
	coding := head.Combined("Content-Encoding")
	text, err := wire.DecodeContent(coding, payload, store.MaxText)
	if err != nil && len(text) == 0 || len(text) >= store.MaxText {
		return nil, false
	}
	hidden := h.Text(text)
	if bytes.Equal(hidden, text) && err == nil {
		return payload, true
	}
	var out bytes.Buffer
	switch strings.ToLower(string(bytes.TrimSpace(coding))) {
	case "identity":
		return hidden, true
	case "gzip", "x-gzip":
		w := gzip.NewWriter(&out)
		w.Write(hidden) // into memory: it cannot fail
		w.Close()
	case "br":
		w := brotli.NewWriter(&out)
		w.Write(hidden)
		w.Close()
	case "zstd":
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, false
		}
		out.Write(w.EncodeAll(hidden, nil))
		w.Close()
	default:
		return nil, false
	}
	return out.Bytes(), true
}
