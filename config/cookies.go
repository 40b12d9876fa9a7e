package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
)

// CookieJar says what the jars of identities take from the traffic of clients.
type CookieJar struct {
	Tools   []string // whose traffic; none: nobody's
	Observe bool     // the cookies in their requests too
	Ruled   bool     // and all answers under a rule that sends the jar's cookies
	// Import is what the jar of the identity begins with that speaks where
	// nobody is named.
	Import []jar.Cookie
}

type jarDraft struct {
	tools   *[]word // nil: not written
	observe bool
	file    word
}

func jarFields() []field[jarDraft] {
	return []field[jarDraft]{
		{"tools", "", func(d *decoder, n *yaml.Node, j *jarDraft) {
			j.tools = new([]word)
			words("tools", func(j *jarDraft) *[]word { return j.tools })(d, n, j)
		}},
		{"observe", "", flag("observe", func(j *jarDraft) *bool { return &j.observe })},
		{"import", "", single("import", func(j *jarDraft) *word { return &j.file })},
	}
}

// cookieJar compiles what feeds the jars. They are fed where the key is there,
// and where a rule sends what is in them.
func (d *decoder) cookieJar(f *fileDraft, file *File) {
	j := f.jar
	if j == nil {
		if !slices.ContainsFunc(file.Rules, usesJar) {
			return
		}
		j = &jarDraft{observe: true}
	}
	file.CookieJar = CookieJar{Tools: []string{flow.ToolProxy}, Observe: j.observe, Ruled: j.tools == nil, Import: d.cookieFile(j.file)}
	if j.tools == nil {
		return
	}
	file.CookieJar.Tools = nil
	for _, w := range *j.tools {
		switch {
		case strings.EqualFold(w.s, flow.ToolMacro):
			d.errorAt(w.n, "take it out", "what macros bring is in the jar in any case")
		case !toolName.MatchString(w.s):
			d.errorAt(w.n, "use letters, digits, _ . and -", "%q cannot be the name of a tool", shorten(w.s))
		default:
			file.CookieJar.Tools = append(file.CookieJar.Tools, w.s)
		}
	}
}

// usesJar reports whether the rule puts cookies of the jar into requests.
func usesJar(r rule.Rule) bool {
	return r.Enabled && slices.ContainsFunc(r.Actions, func(a rule.Action) bool { return a.UseCookies != nil })
}

// maxToldLines bounds how many mistakes of one file of cookies are listed.
const maxToldLines = 10

// cookieFile reads a file of cookies whose name is relative to the
// configuration. Mistakes in it are told with its own lines; an excerpt would
// show a cookie.
func (d *decoder) cookieFile(w word) []jar.Cookie {
	if !w.given() {
		return nil
	}
	path := w.s
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.text.name), path)
	}
	if !d.may(w.n, 0, useCookies, path) {
		return nil
	}
	src, err := d.read(w.n, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.errorAt(w.n, "create "+path+"; the name is relative to the configuration file", "there is no file %s", w.s)
		return nil
	case err != nil:
		d.errorAt(w.n, "make it readable for holdfast", "the file %s cannot be read: %s", w.s, cause(err))
		return nil
	case len(src) > MaxFileSize:
		d.errorAt(w.n, "at most "+formatSize(MaxFileSize)+" are read", "the file %s is too large for cookies", w.s)
		return nil
	}
	cookies, problems := jar.Decode(src)
	for i, p := range problems {
		if i == maxToldLines {
			d.errorAt(w.n, "mend the ones above first", "%s has %d more mistakes", w.s, len(problems)-i)
			break
		}
		d.problems = append(d.problems, Problem{File: path, Line: p.Line, Column: 1, What: p.Reason,
			Next: fmt.Sprintf("correct the cookie; the file is named in line %d of %s", w.n.Line, d.text.name)})
	}
	if len(cookies) == 0 && len(problems) == 0 {
		d.warnAt(w.n, "name a cookies.txt, or a file that holdfast wrote", "the file %s holds no cookie", w.s)
	}
	return cookies
}
