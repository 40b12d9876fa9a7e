package rule

import (
	"errors"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// mediaType is the media type of a message's body, in lower case, without its
// parameters.
func mediaType(h *wire.Head) string {
	value, _ := h.Get("Content-Type")
	media, _, _ := strings.Cut(string(value), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// style is how values are written in a body.
type style uint8

const (
	stylePlain style = iota
	styleJSON
	styleForm
	styleXML
)

// styleOf is the style of a body, by its media type. One without a type that
// begins as JSON does is taken for JSON.
func styleOf(m *Message) style {
	switch media := mediaType(&m.Request.Head); {
	case media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"):
		return styleJSON
	case media == "" && len(m.Body) > 0 && (m.Body[0] == '{' || m.Body[0] == '['):
		return styleJSON
	case media == "application/x-www-form-urlencoded":
		return styleForm
	case media == "application/xml" || media == "text/xml" || strings.HasSuffix(media, "+xml"):
		return styleXML
	}
	return stylePlain
}

// renderStyled writes a value as the body needs it.
func renderStyled(m *Message, dst []byte, e Encoding, value string) []byte {
	switch styleOf(m) {
	case styleJSON:
		return renderJSON(m, dst, e, value)
	case styleForm:
		return e.AppendParam(dst, value)
	case styleXML:
		return renderXML(m, dst, e, value)
	}
	return e.Append(dst, value)
}

func plainStyled(m *Message, text string) string {
	switch styleOf(m) {
	case styleJSON:
		return plainJSON(m, `"`+text+`"`)
	case styleForm:
		return unescape(text, true)
	case styleXML:
		return plainXML(m, text)
	}
	return text
}

var errNoForm = errors.New("the body is no form: its Content-Type is another")

func formPlace() targetPlace {
	query := queryPlace()
	return targetPlace{
		prefix: "form:",
		key:    "name",
		body:   true,
		loose:  true,
		find: func(m *Message, t *Target) ([]byte, bool) {
			if styleOf(m) != styleForm {
				return nil, false
			}
			p, ok := findPair(m.Body, 0, t.Name)
			return m.Body[p.from:p.to], ok
		},
		put: func(m *Message, t *Target, text []byte) (bool, error) {
			if styleOf(m) != styleForm {
				return false, errNoForm
			}
			p, ok := findPair(m.Body, 0, t.Name)
			switch {
			case ok && p.bare:
				text = append([]byte("="), text...)
			case !ok:
				end := len(m.Body)
				p = param{from: end, to: end}
				pair := appendParamName(nil, t.Name)
				if end > 0 && m.Body[end-1] != '&' {
					pair = append([]byte("&"), pair...)
				}
				text = append(append(pair, '='), text...)
			}
			m.Body = splice(m.Body, p.from, p.to, text)
			return true, nil
		},
		render: query.render,
		plain:  query.plain,
		refuse: query.refuse,
	}
}

func bodyPlace() targetPlace {
	return targetPlace{
		prefix: "body:",
		key:    "regex",
		body:   true,
		fixed:  true,
		loose:  true,
		check: func(t *Target) (err error) {
			t.pattern, err = compilePattern(t.Regex, 1)
			return err
		},
		find: func(m *Message, t *Target) ([]byte, bool) {
			from, to, ok := t.pattern.span(m.Body)
			return m.Body[from:to], ok
		},
		put: func(m *Message, t *Target, text []byte) (bool, error) {
			from, to, ok := t.pattern.span(m.Body)
			if ok {
				m.Body = splice(m.Body, from, to, text)
			}
			return ok, nil
		},
		render: renderStyled,
		plain:  plainStyled,
		refuse: anything,
	}
}
