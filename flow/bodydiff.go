package flow

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of what is shown of an edited body.
const (
	maxBodyRead   = 16 << 10 // bytes of a body whose names are looked for
	maxBodyAround = 128      // bytes on either side of a value that is new
	maxBodyName   = 64       // bytes of a name
)

// EditedBody notes the payload of the request's body as the client wrote it and
// as it is sent, for Changes. Both must not change until the flow has ended. Two
// nil ones say that the body is sent as it came.
func (f *Flow) EditedBody(was, is []byte) { f.bodyWas, f.bodyIs = was, is }

// SentBody is the payload of the request's body as it was last sent, where that
// is not what the client wrote. It is valid until the flow has ended.
func (f *Flow) SentBody() (payload []byte, edited bool) { return f.bodyIs, f.bodyIs != nil }

// bodyChange is the line about an edited body: its length before and now, and
// 128 bytes on either side of what is new, as far as that stands in the first
// 16 KiB. Of forms, JSON, XML and multipart bodies it shows the names; of
// others, in which nobody knows what is a secret, only which bytes are new.
func (f *Flow) bodyChange() string {
	was, is := f.bodyWas, f.bodyIs
	line := "~ body (" + strconv.Itoa(len(was)) + " bytes, now " + strconv.Itoa(len(is)) + "): "
	kind, _ := f.Request.Get("Content-Type")
	if split := splitterOf(kind); split != nil {
		pieces := split(readable(is, maxBodyRead))
		if len(is) > maxBodyRead { // the last piece is cut
			pieces = pieces[:max(0, len(pieces)-1)]
		}
		if shown := showBody(pieces, split(readable(was, 2*maxBodyRead))); shown != "" {
			return line + shown
		}
	}
	from, to := span(was, is)
	if from == to {
		return line + fmt.Sprintf("%d bytes are gone at byte %d", len(was)-len(is), from)
	}
	return line + fmt.Sprintf("bytes %d to %d are ***", from, to-1)
}

func readable(body []byte, limit int) string { return string(body[:min(len(body), limit)]) }

// span is the part of is that begins and ends with what differs from was.
func span(was, is []byte) (from, to int) {
	shorter := min(len(was), len(is))
	for from < shorter && was[from] == is[from] {
		from++
	}
	end := 0
	for end < shorter-from && was[len(was)-1-end] == is[len(is)-1-end] {
		end++
	}
	return from, len(is) - end
}

// piece is a part of a body: what may be shown of it, or a value under a name.
type piece struct {
	at    int    // where it begins
	text  string // names and what stands between; "" of a value
	name  string // of a value
	value string
	quote string // around a value
}

// splitterOf says how bodies of a content type fall into pieces; nil: not.
func splitterOf(contentType []byte) func(string) []piece {
	kind, parameters, _ := bytes.Cut(bytes.ToLower(contentType), []byte(";"))
	kind = bytes.TrimSpace(kind)
	is := func(suffix string) bool { return bytes.HasSuffix(kind, []byte(suffix)) }
	switch {
	case string(kind) == "application/x-www-form-urlencoded":
		return splitForm
	case is("/json"), is("+json"):
		return splitJSON
	case is("/xml"), is("+xml"):
		return splitXML
	case bytes.HasPrefix(kind, []byte("multipart/")) && bytes.Contains(parameters, []byte("boundary=")):
		return splitMultipart
	}
	return nil
}

// showBody shows what surrounds the values that the body did not have before;
// "" where there is none.
func showBody(is, was []piece) string {
	news := newValues(is, was)
	var b strings.Builder
	b.Grow(4 * maxBodyAround)
	next, gap := 0, false // next is the first piece that was not looked at
	for n, i := range news {
		first, last := i, i
		end := is[i].at + len(is[i].value)
		for first > next && is[i].at-is[first-1].at <= maxBodyAround {
			first--
		}
		for last+1 < len(is) && is[last+1].at+len(is[last+1].text)+len(is[last+1].value)-end <= maxBodyAround {
			last++
		}
		if n+1 < len(news) {
			last = min(last, news[n+1]-1)
		}
		if first > next {
			b.WriteString(" [...] ")
		}
		for j := first; j <= last; j++ {
			writePiece(&b, &is[j], j == i)
		}
		next, gap = last+1, last+1 < len(is)
		if b.Len() > maxChange {
			break // it will be cut
		}
	}
	if gap {
		b.WriteString(" [...] ")
	}
	return strings.TrimSpace(b.String())
}

func writePiece(b *strings.Builder, p *piece, isNew bool) {
	word := "…"
	switch {
	case p.text != "":
		b.WriteString(p.text)
		return
	case isNew:
		word = "***"
	}
	b.WriteString(p.quote)
	b.WriteString(word)
	b.WriteString(p.quote)
}

// newValues are the indexes of the values that were not there under their name.
// Most stand where they stood.
func newValues(is, was []piece) (news []int) {
	var known map[[2]string]bool
	for i := range is {
		p := &is[i]
		if p.text != "" || i < len(was) && was[i].text == "" && was[i].name == p.name && was[i].value == p.value {
			continue
		}
		if known == nil {
			known = make(map[[2]string]bool, len(was))
			for j := range was {
				if was[j].text == "" {
					known[[2]string{was[j].name, was[j].value}] = true
				}
			}
		}
		if !known[[2]string{p.name, p.value}] {
			news = append(news, i)
		}
	}
	return news
}

func shortName(s string) string {
	if len(s) > maxBodyName {
		return strings.ToValidUTF8(s[:maxBodyName], "") + "[...]"
	}
	return s
}

// isName reports whether a text is what names look like: it is shown.
func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("_-.[]%+$:@", c))
	}) < 0
}

func splitForm(body string) []piece {
	pieces := make([]piece, 0, 3*strings.Count(body, "&")+2)
	at := 0
	for pair := range strings.SplitSeq(body, "&") {
		if at > 0 {
			pieces = append(pieces, piece{at: at - 1, text: "&"})
		}
		name, value, _ := strings.Cut(pair, "=")
		if strings.Trim(value, "=") == "" || !isName(name) { // it may be a value without a name, or no form at all
			name, value = "", pair
		} else {
			pieces = append(pieces, piece{at: at, text: shortName(name) + "="})
		}
		pieces = append(pieces, piece{at: at + len(pair) - len(value), name: name, value: value})
		at += len(pair) + 1
	}
	return pieces
}

// splitJSON needs no valid JSON: what it does not know is a value.
func splitJSON(body string) []piece {
	pieces := make([]piece, 0, 16)
	name := ""
	for i := 0; i < len(body); {
		start, c := i, body[i]
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case strings.IndexByte("{}[],:", c) >= 0:
			i++
			pieces = append(pieces, piece{at: start, text: string(c)})
		case c == '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
			i = min(i+1, len(body))
			text := body[start:i]
			if strings.HasPrefix(strings.TrimLeft(body[i:], " \t\r\n"), ":") {
				name = text
				pieces = append(pieces, piece{at: start, text: shortName(text)})
			} else {
				pieces = append(pieces, piece{at: start, name: name, value: text, quote: `"`})
			}
		default:
			for i < len(body) && strings.IndexByte("{}[],:\" \t\r\n", body[i]) < 0 {
				i++
			}
			pieces = append(pieces, piece{at: start, name: name, value: body[start:i]})
		}
	}
	return pieces
}

// splitXML shows the names of elements and of attributes.
func splitXML(body string) (pieces []piece) {
	element := ""
	for at := 0; at < len(body); {
		rest := body[at:]
		open := strings.IndexByte(rest, '<')
		if open < 0 {
			open = len(rest)
		}
		if text := rest[:open]; strings.TrimSpace(text) != "" {
			pieces = append(pieces, piece{at: at, name: element, value: text})
		}
		if at += open; at == len(body) {
			break
		}
		tag := body[at:]
		end := strings.IndexByte(tag, '>')
		if strings.HasPrefix(tag, "<!") || end < 0 { // comments, CDATA: whatever is in it
			if strings.HasPrefix(tag, "<![CDATA[") {
				end = strings.Index(tag, "]]>") + 2
			}
			if end <= 0 || end >= len(tag) {
				end = len(tag) - 1
			}
			pieces = append(pieces, piece{at: at, name: element, value: tag[:end+1]})
		} else {
			element, pieces = splitTag(pieces, at, tag[:end+1])
		}
		at += end + 1
	}
	return pieces
}

func splitTag(pieces []piece, at int, tag string) (element string, _ []piece) {
	const space = " \t\r\n"
	inside := strings.TrimRight(strings.Trim(tag, "<>"), "/")
	end := strings.IndexAny(inside, space)
	if end < 0 {
		end = len(inside)
	}
	element, rest := inside[:end], inside[end:]
	if !isName(strings.Trim(element, "/?")) {
		return "", append(pieces, piece{at: at, value: tag})
	}
	pieces = append(pieces, piece{at: at, text: "<" + shortName(element)})
	for rest != "" {
		name, after, _ := strings.Cut(rest, "=")
		name, after = strings.Trim(name, space), strings.TrimLeft(after, space)
		if !isName(name) || after == "" || after[0] != '"' && after[0] != '\'' {
			break // no attributes that anybody can read
		}
		quote := after[:1]
		value, next, _ := strings.Cut(after[1:], quote)
		pieces = append(pieces, piece{at: at, text: " " + shortName(name) + "="},
			piece{at: at, name: element + " " + name, value: value, quote: quote})
		rest = next
	}
	return element, append(pieces, piece{at: at + len(tag) - 1, text: ">"})
}

// splitMultipart shows the names of the parts. A part begins with the line that
// the body begins with.
func splitMultipart(body string) (pieces []piece) {
	boundary, _, ok := strings.Cut(body, "\n")
	if boundary = strings.TrimRight(boundary, "\r"); !ok || !strings.HasPrefix(boundary, "--") {
		return nil
	}
	at := 0
	for part := range strings.SplitSeq(body, boundary) {
		head, value, ok := strings.Cut(part, "\r\n\r\n")
		if ok {
			_, name, _ := strings.Cut(head, `name="`)
			name, _, _ = strings.Cut(name, `"`)
			if len(pieces) > 0 {
				pieces = append(pieces, piece{at: at, text: "; "})
			}
			pieces = append(pieces, piece{at: at, text: shortName(name) + "="}, piece{at: at + len(part) - len(value), name: name, value: value})
		}
		at += len(part) + len(boundary)
	}
	return pieces
}
