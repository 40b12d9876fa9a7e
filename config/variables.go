package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// anonymous is the identity that is built in and has no variables.
const anonymous = "anonymous"

// identityName is what proxy credentials can carry: they are NAME or
// NAME+TOOL, so a plus or a colon cannot be part of it.
var identityName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}$`)

// reference is `${env:NAME}`, `${file:PATH}` or `${text:TEXT}`, which stands for
// TEXT; any other dollar is a dollar.
var reference = regexp.MustCompile(`\$\{([A-Za-z]+):([^}]*)\}`)

// variables reads a mapping of names to values, and puts together what the
// values take from the environment and from files.
func (d *decoder) variables(n *yaml.Node) []variable {
	pairs, _ := d.pairs(n, "variables")
	var all []variable
	for _, p := range pairs {
		if !isVariableName(p.key.Value) {
			d.errorAt(p.key, variableNameNext+"; a colon and a blank go before the value", "this cannot be the name of a variable")
			continue
		}
		w, ok := d.word(p.value, "the variable "+p.key.Value)
		if !ok {
			continue
		}
		if strings.Contains(w.s, "{{") {
			d.warnAt(w.n, "write the value out, or take it from ${env:NAME}", "{{…}} is not replaced inside the variable %s", p.key.Value)
		}
		before := len(d.problems)
		v := variable{name: p.key.Value, value: d.expand(w)}
		v.broken = len(d.problems) > before
		all = append(all, v)
	}
	return all
}

// identities reads the mapping of names to identities.
func (d *decoder) identities(n *yaml.Node) []identityDraft {
	pairs, _ := d.pairs(n, "identities")
	var all []identityDraft
	for _, p := range pairs {
		name := p.key.Value
		switch {
		case name == anonymous:
			d.errorAt(p.key, "give the identity another name", "the identity %q is built in: it has no session", anonymous)
			continue
		case !identityName.MatchString(name):
			d.errorAt(p.key, "use letters, digits, _ . @ and -; proxy credentials must be able to carry it", "this cannot be the name of an identity")
			continue
		}
		i := identityDraft{name: name}
		if !isNull(p.value) {
			object(d, p.value, tableIdentity, identityFields(), &i)
		}
		all = append(all, i)
	}
	return all
}

// expand replaces the references in a value. What they bring is not looked at
// again. A reference that cannot be followed is an error; its text stays.
func (d *decoder) expand(w word) string { return d.expandAs(w, "", nil) }

// expandAs is expand with what each reference brings rewritten by as, which
// may be nil. in says what the value is for, as machineUse does.
func (d *decoder) expandAs(w word, in string, as func(string) string) string {
	if as == nil {
		as = func(s string) string { return s }
	}
	var b strings.Builder
	rest := 0
	for _, m := range reference.FindAllStringSubmatchIndex(w.s, -1) {
		kind, name := w.s[m[2]:m[3]], w.s[m[4]:m[5]]
		b.WriteString(w.s[rest:m[0]])
		rest = m[1]
		switch kind {
		case "env":
			b.WriteString(as(d.fromEnv(w.n, m[0], name, in)))
		case "file":
			b.WriteString(as(d.fromFile(w.n, m[0], name, in)))
		case "text":
			b.WriteString(as(name))
		default:
			b.WriteString(w.s[m[0]:m[1]])
			if s := suggest(kind, []string{"env", "file", "text"}); s != "" {
				d.errorIn(w.n, m[0], fmt.Sprintf("write ${%s:…}", s), "${%s:…} is not known", kind)
			}
		}
	}
	b.WriteString(w.s[rest:])
	return b.String()
}

func (d *decoder) fromEnv(n *yaml.Node, offset int, name, in string) string {
	if name == "" {
		d.errorIn(n, offset, "write ${env:NAME}", "${env:} names no environment variable")
		return ""
	}
	if !d.may(n, offset, useEnv+in, name) {
		return ""
	}
	v, ok := d.options.env(name)
	d.bring(n, []byte(v))
	if !ok {
		d.errorIn(n, offset, fmt.Sprintf("set it before holdfast is started: export %s=…", name), "the environment variable %s is not set", name)
	}
	if ok && v == "" {
		at, _ := d.text.inside(n, offset)
		d.warnings = append(d.warnings, d.text.problem(at, fmt.Sprintf("the environment variable %s is set, but empty", name), "set it before holdfast is started"))
	}
	return v
}

func (d *decoder) fromFile(n *yaml.Node, offset int, name, in string) string {
	if name == "" {
		d.errorIn(n, offset, "write ${file:PATH}; it is relative to the configuration file", "${file:} names no file")
		return ""
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.text.name), path)
	}
	if !d.may(n, offset, useFile+in, path) {
		return ""
	}
	b, err := d.read(n, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.errorIn(n, offset, "create "+path+"; the name is relative to the configuration file", "there is no file %s", name)
	case err != nil:
		d.errorIn(n, offset, "make it readable for holdfast", "the file %s cannot be read: %s", name, cause(err))
	case len(b) > MaxFileSize:
		d.errorIn(n, offset, fmt.Sprintf("at most %s are read", formatSize(MaxFileSize)), "the file %s is too large for a variable", name)
	case !utf8.Valid(b) || strings.ContainsRune(string(b), 0):
		d.errorIn(n, offset, "save it as UTF-8", "the file %s is not text", name)
	default:
		s := strings.TrimSuffix(string(b), "\n")
		return strings.TrimSuffix(s, "\r")
	}
	return ""
}

// cause is a file error without the path, which the message says already.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
