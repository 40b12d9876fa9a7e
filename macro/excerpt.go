package macro

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
)

// maxExcerpt is how much of an answer an error shows, in bytes.
const maxExcerpt = 160

// minVeiled is how long the value of a variable is, in bytes, that an excerpt
// does not show: a shorter one is part of too many words to hide anything.
const minVeiled = 2

// excerpt is the beginning of an answer's text without secrets.
func (r *run) excerpt(answer *StepResult) string {
	media, _ := answer.Response.Get("Content-Type")
	kind := strings.ToLower(string(media))
	body := answer.Body[:min(len(answer.Body), 64<<10)]
	if len(body) == 0 || !utf8.Valid(body[:max(0, len(body)-utf8.UTFMax)]) || slices.Contains(body, 0) {
		return ""
	}
	text := string(body)
	if strings.Contains(kind, "html") || strings.HasPrefix(strings.TrimSpace(text), "<") {
		text = textOf(text)
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) > 4*maxExcerpt {
		text = text[:4*maxExcerpt]
	}
	text = r.veil(text)
	if len(text) > maxExcerpt {
		text = strings.ToValidUTF8(text[:maxExcerpt], "") + "…"
	}
	return text
}

// textOf is what a person would read of a page.
func textOf(page string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	hidden := false
	for b.Len() < 8*maxExcerpt {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.StartTagToken:
			name, _ := z.TagName()
			hidden = string(name) == "script" || string(name) == "style"
		case html.EndTagToken:
			hidden = false
		case html.TextToken:
			if !hidden {
				b.Write(z.Text())
				b.WriteByte(' ')
			}
		}
	}
	return b.String()
}

// veil takes the values of variables and cookies, and words that look drawn,
// out of a text of the origin's.
func (r *run) veil(text string) string {
	for _, name := range r.used {
		if v, ok := r.lookup(name); ok && len(v) >= minVeiled {
			text = strings.ReplaceAll(text, v, "***")
		}
	}
	for _, v := range r.values {
		if len(v) >= minVeiled {
			text = strings.ReplaceAll(text, v, "***")
		}
	}
	var b strings.Builder
	for len(text) > 0 {
		n := strings.IndexFunc(text, func(c rune) bool { return !inToken(c) })
		if n < 0 {
			n = len(text)
		}
		if word := text[:n]; looksDrawn(word) {
			b.WriteString("…")
		} else {
			b.WriteString(word)
		}
		_, size := utf8.DecodeRuneInString(text[n:])
		b.WriteString(text[n : n+size])
		text = text[n+size:]
	}
	return b.String()
}

// inToken tells whether a character may be part of a token: of base64, of hex,
// of a JSON Web Token.
func inToken(c rune) bool {
	return unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("-_+=%~", c)
}

// looksDrawn tells whether a word may be a token: it is long, or has digits and
// is longer than a status or a year.
func looksDrawn(word string) bool {
	return len(word) > 24 || len(word) >= 6 && strings.ContainsAny(word, "0123456789")
}
