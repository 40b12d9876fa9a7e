package redact

import "bytes"

// How far is looked from a name for its value.
const (
	maxBlank = 8       // blanks around a separator
	maxTag   = 1 << 10 // bytes of a tag of HTML, or the head of a part
	maxUser  = 256     // bytes of a user's name, and of a password, in a URL
)

// Values calls found for each value in the text whose name says that it is a
// credential: the bytes from from up to to, without quotes. Those it is called
// for do not overlap, unless one is a URL with a password; they come in the order
// of their names.
func Values(text []byte, found func(from, to int)) {
	s := scanner{text: text, found: found}
	for s.at < len(text) {
		if c := text[s.at]; c == '=' || c == ':' {
			s.separator(s.at)
		} else {
			s.at++
		}
	}
}

type scanner struct {
	text  []byte
	at    int // what is before was looked at
	tag   int // where the last tag ends whose value was looked for
	found func(from, to int)
}

// say tells of a value that is not empty.
func (s *scanner) say(from, to int) {
	if from < to {
		s.found(from, to)
	}
}

// separator looks at what may stand between a name and its value.
func (s *scanner) separator(i int) {
	s.at = i + 1
	if s.text[i] == ':' && bytes.HasPrefix(s.text[i:], []byte("://")) {
		s.userinfo(i + 3)
		return
	}
	name := s.before(i)
	switch {
	case len(name) == 4 && bytes.EqualFold(name, []byte("name")) && s.text[i] == '=':
		s.named(i)
	case Name(name) && !bytes.HasPrefix(s.text[i:], []byte("==")):
		from := i + 1
		if s.text[i] == ':' && len(name) >= len("authorization") && bytes.EqualFold(name[len(name)-len("authorization"):], []byte("authorization")) {
			from = s.scheme(from)
		}
		s.value(from, s.text[i] == ':')
	}
}

// scheme is where the credentials begin behind the scheme of an Authorization
// field, which is no secret (RFC 9110 §11.4).
func (s *scanner) scheme(i int) int {
	rest := s.text[i:min(len(s.text), i+maxName)]
	word := bytes.TrimLeft(rest, " \t")
	n := 0
	for n < len(word) && word[n] > ' ' && !quote(word[n]) {
		n++
	}
	if behind := bytes.TrimLeft(word[n:], " \t"); len(behind) == len(word)-n || len(behind) == 0 || behind[0] <= ' ' {
		return i
	}
	return i + len(rest) - len(word) + n
}

// before is the name that ends before i, without its quotes.
func (s *scanner) before(i int) []byte {
	end := i
	for n := 0; end > 0 && n < maxBlank && blank(s.text[end-1]); n++ {
		end--
	}
	if end > 0 && quote(s.text[end-1]) {
		for end--; end > 0 && s.text[end-1] == '\\'; {
			end--
		}
	}
	begin := end
	for begin > 0 && end-begin <= maxName && nameByte(s.text[begin-1]) {
		begin--
	}
	return s.text[begin:end]
}

// value finds where the value begins and ends that stands behind a separator.
func (s *scanner) value(i int, member bool) {
	for n := 0; i < len(s.text) && n < maxBlank && blank(s.text[i]); n++ {
		i++
	}
	if member && i < len(s.text) && s.text[i] == '[' {
		s.list(i + 1)
		return
	}
	if from, to, ok := s.quoted(i); ok {
		s.say(from, to)
		s.at = max(s.at, to)
		return
	}
	to := i
	for to < len(s.text) && !over(s.text[to], member) {
		to++
	}
	switch string(s.text[i:to]) {
	case "true", "false", "null", "undefined":
		return
	}
	if i < to && (s.text[i] == '{' || s.text[i] == '[' || s.text[i] == '(') {
		return // what is in it has names of its own
	}
	s.say(i, to)
	s.at = max(s.at, to)
}

// quoted is a text in quotes that begins at i, also where the quotes themselves
// are escaped. One that does not end goes on to the end.
func (s *scanner) quoted(i int) (from, to int, ok bool) {
	begin := i
	for i < len(s.text) && s.text[i] == '\\' {
		i++
	}
	if i >= len(s.text) || !quote(s.text[i]) {
		return 0, 0, false
	}
	depth, mark := i-begin, s.text[i]
	for to = i + 1; to < len(s.text); to++ {
		if s.text[to] == '\n' && mark == '\'' {
			return 0, 0, false // an apostrophe
		}
		if s.text[to] != mark {
			continue
		}
		back := to
		for back > i+1 && s.text[back-1] == '\\' {
			back--
		}
		// Within as many backslashes as the beginning had it is the end; more
		// are an escaped quote.
		if n := to - back; n == depth || n < depth || depth == 0 && n%2 == 0 {
			return i + 1, max(i+1, to-min(n, depth)), true
		}
	}
	return i + 1, len(s.text), true
}

// list finds the texts and numbers of an array.
func (s *scanner) list(i int) {
	for i < len(s.text) && s.text[i] != ']' && s.text[i] != '}' {
		switch from, to, ok := s.quoted(i); {
		case ok:
			s.say(from, to)
			i = to + 1
		case s.text[i] >= '0' && s.text[i] <= '9':
			to := i
			for to < len(s.text) && !over(s.text[to], true) {
				to++
			}
			s.say(i, to)
			i = to
		case s.text[i] == '{' || s.text[i] == '[': // its members have names of their own
			return
		default:
			i++
		}
		s.at = max(s.at, min(i, len(s.text)))
	}
}

// named is name="…" of a field of HTML or of a part of a form: the value stands
// elsewhere.
func (s *scanner) named(i int) {
	if i < s.tag {
		return
	}
	from, to, ok := s.quoted(i + 1)
	if !ok {
		for from, to = i+1, i+1; to < len(s.text) && nameByte(s.text[to]); {
			to++
		}
	}
	if !Name(s.text[from:to]) {
		return
	}
	window := s.text[to:min(len(s.text), to+maxTag)]
	open := bytes.LastIndexByte(s.text[max(0, i-maxTag):i], '<')
	if open >= 0 && bytes.IndexByte(s.text[max(0, i-maxTag)+open:i], '>') < 0 {
		begin := max(0, i-maxTag) + open
		end := len(window)
		if n := bytes.IndexByte(window, '>'); n >= 0 {
			end = n
		}
		s.tag = to + end
		s.attribute(begin, s.tag)
		return
	}
	if semicolon := bytes.TrimRight(s.text[max(0, i-maxBlank):max(0, i-len("name"))], " \t"); len(semicolon) == 0 || semicolon[len(semicolon)-1] != ';' {
		return
	}
	line, rest, ok := bytes.Cut(window, []byte("\r\n"))
	for ok && len(line) > 0 && len(rest) > 0 && !bytes.HasPrefix(rest, []byte("\r\n")) {
		line, rest, ok = bytes.Cut(rest, []byte("\r\n"))
	}
	if !ok || !bytes.HasPrefix(rest, []byte("\r\n")) {
		return
	}
	begin := to + len(window) - len(rest) + 2
	end := begin
	for end < len(s.text) && s.text[end] != '\r' && s.text[end] != '\n' {
		end++
	}
	s.say(begin, end)
	s.at = max(s.at, end)
}

// attribute finds the value of a tag.
func (s *scanner) attribute(begin, end int) {
	tag := s.text[begin:end]
	for _, name := range []string{"value", "content"} {
		for at := 0; at < len(tag); {
			n := bytes.IndexByte(tag[at:], '=')
			if n < 0 {
				break
			}
			at += n + 1
			if !bytes.EqualFold(s.before(begin+at-1), []byte(name)) {
				continue
			}
			if from, to, ok := s.quoted(begin + at); ok && to <= end {
				s.say(from, to)
				continue
			}
			to := begin + at
			for to < end && !blank(s.text[to]) && s.text[to] != '/' {
				to++
			}
			s.say(begin+at, to)
		}
	}
}

// userinfo finds the password of a URL whose authority begins at i.
func (s *scanner) userinfo(i int) {
	colon := -1
	for at := i; at < len(s.text) && at < i+2*maxUser; at++ {
		switch c := s.text[at]; {
		case c == '@':
			if colon >= 0 {
				s.say(colon+1, at)
				s.at = at
			}
			return
		case c == ':' && colon < 0:
			colon = at
		case c == '/' || c <= ' ' || quote(c) || c == '<' || c == '>' || c == '\\':
			return
		}
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func quote(c byte) bool { return c == '"' || c == '\'' }

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == '[' || c == ']' || c == '%'
}

// over reports whether a value without quotes ends before c; that of a member
// ends with the object.
func over(c byte, member bool) bool {
	switch c {
	case '&', '#', ';', '"', '\'', '<', '>', '\\':
		return true
	case ',', '}', ']':
		return member
	}
	return c <= ' '
}
