package convert

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// cmdQuote shows that a command line was copied for cmd.exe.
var cmdQuote = regexp.MustCompile(`\^"|\^\r?\n|\^%|\^&`)

// curlWords parts a text into commands and these into words, as a shell does,
// or cmd.exe and what parts a Windows program's arguments.
func curlWords(text string) (commands [][]string, err error) {
	if cmdQuote.MatchString(text) {
		return [][]string{windowsWords(uncaret(text))}, nil
	}
	s := shell{text: text}
	if err := s.parse(); err != nil {
		return nil, err
	}
	for _, words := range s.commands {
		if len(words) > 0 && words[0] == "$" { // a prompt that was copied
			words = words[1:]
		}
		if len(words) == 0 {
			continue
		}
		name := words[0][strings.LastIndexAny(words[0], `/\`)+1:]
		if name != "curl" && name != "curl.exe" {
			return nil, errors.New("a command that is not curl stands in it; give the curl commands alone")
		}
		commands = append(commands, words)
	}
	return commands, nil
}

// uncaret undoes the escapes of cmd.exe: a caret takes the meaning from the
// character behind it, and from a line end with it.
func uncaret(text string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			quoted = !quoted
			b.WriteByte(c)
		case c == '^' && !quoted && i+1 < len(text):
			i++
			if text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n' {
				i++
			}
			if text[i] != '\n' {
				b.WriteByte(text[i])
				continue
			}
			// The line goes on, and its first character is taken as it is: an
			// empty line is a line end.
			if rest := strings.TrimPrefix(text[i+1:], "\r"); strings.HasPrefix(rest, "\n") {
				b.WriteByte('\n')
				i += len(text[i+1:]) - len(rest) + 1
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// windowsWords parts words as a C program on Windows does: backslashes count
// only before a quote.
func windowsWords(text string) (words []string) {
	var b strings.Builder
	open, quoted := false, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\':
			n := 1
			for i+n < len(text) && text[i+n] == '\\' {
				n++
			}
			open = true
			if i+n < len(text) && text[i+n] == '"' {
				b.WriteString(strings.Repeat(`\`, n/2))
				if n%2 == 1 {
					b.WriteByte('"')
					n++
				}
			} else {
				b.WriteString(strings.Repeat(`\`, n))
			}
			i += n - 1
		case c == '"' && quoted && i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		case c == '"':
			quoted, open = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			if open {
				words = append(words, b.String())
				b.Reset()
			}
			open = false
		default:
			b.WriteByte(c)
			open = true
		}
	}
	if open {
		words = append(words, b.String())
	}
	return words
}

// shell parts words as a POSIX shell does, with $'…' of bash. It expands
// nothing.
type shell struct {
	text     string
	at       int
	word     strings.Builder
	open     bool
	words    []string
	commands [][]string
}

func (s *shell) endWord() {
	if s.open {
		s.words = append(s.words, s.word.String())
		s.word.Reset()
	}
	s.open = false
}

func (s *shell) endCommand() {
	s.endWord()
	if len(s.words) > 0 {
		s.commands = append(s.commands, s.words)
	}
	s.words = nil
}

func (s *shell) parse() error {
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '\\':
			s.backslash()
		case c == '\'':
			s.open = true
			end := strings.IndexByte(s.text[s.at:], '\'')
			if end < 0 {
				return errors.New("a single quote is not closed")
			}
			s.word.WriteString(s.text[s.at : s.at+end])
			s.at += end + 1
		case c == '"':
			if err := s.doubleQuoted(); err != nil {
				return err
			}
		case c == '$' && strings.HasPrefix(s.text[s.at:], "'"):
			s.at++
			if err := s.ansiQuoted(); err != nil {
				return err
			}
		case c == ' ' || c == '\t' || c == '\r':
			s.endWord()
		case c == '\n' || c == ';':
			s.endCommand()
		case c == '&' || c == '|' || c == '<' || c == '>':
			if err := s.operator(c); err != nil {
				return err
			}
		case c == '#' && !s.open:
			if end := strings.IndexByte(s.text[s.at:], '\n'); end >= 0 {
				s.at += end
			} else {
				s.at = len(s.text)
			}
		default:
			s.word.WriteByte(c)
			s.open = true
		}
	}
	s.endCommand()
	return nil
}

// operator ends a command at && and &, and refuses what would make the request
// depend on something else.
func (s *shell) operator(c byte) error {
	if c == '&' {
		s.endCommand()
		return nil
	}
	return errors.New("a pipe or a redirection stands in it; give the curl command alone, and put URLs in quotes")
}

func (s *shell) backslash() {
	rest := strings.TrimPrefix(s.text[s.at:], "\r")
	switch {
	case strings.HasPrefix(rest, "\n"):
		s.at = len(s.text) - len(rest) + 1
	case s.at < len(s.text):
		s.word.WriteByte(s.text[s.at])
		s.at++
		s.open = true
	}
}

func (s *shell) doubleQuoted() error {
	s.open = true
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			return nil
		case c == '\\' && s.at < len(s.text):
			next := s.text[s.at]
			s.at++
			switch next {
			case '\n':
			case '"', '\\', '$', '`':
				s.word.WriteByte(next)
			default:
				s.word.WriteByte('\\')
				s.word.WriteByte(next)
			}
		default:
			s.word.WriteByte(c)
		}
	}
	return errors.New("a double quote is not closed")
}

// ansiQuoted reads what follows $' in bash.
func (s *shell) ansiQuoted() error {
	s.open = true
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '\'':
			return nil
		case c == '\\' && s.at < len(s.text):
			s.ansiEscape()
		default:
			s.word.WriteByte(c)
		}
	}
	return errors.New("a quote of the form $'…' is not closed")
}

func (s *shell) ansiEscape() {
	c := s.text[s.at]
	s.at++
	simple := map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', '\\': '\\', '\'': '\'', '"': '"', '?': '?', 'a': 7, 'b': 8, 'e': 27, 'E': 27, 'f': 12, 'v': 11}
	if plain, ok := simple[c]; ok {
		s.word.WriteByte(plain)
		return
	}
	digits, base := 0, 16
	switch {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		s.at--
		digits, base = 3, 8
	}
	end := s.at
	for end < len(s.text) && end-s.at < digits {
		if _, err := strconv.ParseUint(s.text[end:end+1], base, 8); err != nil {
			break
		}
		end++
	}
	n, err := strconv.ParseUint(s.text[s.at:end], base, 32)
	if err != nil {
		s.word.WriteByte('\\')
		s.word.WriteByte(c)
		return
	}
	s.at = end
	if c == 'u' || c == 'U' {
		s.word.WriteString(string(utf8.AppendRune(nil, rune(n))))
	} else {
		s.word.WriteByte(byte(n))
	}
}
