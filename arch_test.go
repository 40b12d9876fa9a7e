package holdfast_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/holdfast-proxy/holdfast"

// stratum is one line of the drawing in doc.go.
type stratum struct {
	imports string // packages of this module that may be imported, separated by spaces
	pure    bool   // no socket, no file, no clock, no randomness, no goroutine
	why     string // why these imports
}

// drawing is the drawing in doc.go as a table. Do not add an import here to
// mend a build: a new arrow wants a reason.
var drawing = map[string]stratum{
	"wire":   {"", true, "bytes know nothing else"},
	"httpql": {"", true, "a language; what it asks about comes as an interface"},
	"jar":    {"", true, "cookies are bytes and times"},
	"ca":     {"", false, "certificates; draws random keys and keeps one file"},

	"redact": {"", true, "which names are credentials, and where their values stand in a text"},

	"flow": {"wire httpql", true, "an exchange is messages, and a record that a condition can ask"},

	"script":  {"wire jar flow", false, "a script reads and edits messages, and cookies; it has a clock that ends it, and calls the functions it is given"},
	"rule":    {"wire httpql flow script", true, "a rule is a condition on flows, and edits of messages; it names compiled scripts and runs none"},
	"macro":   {"wire httpql jar flow script rule", false, "a step takes and puts values as a rule does; it calls the Send it is given"},
	"convert": {"wire", true, "other tools' files become messages"},

	"macro/derive": {"wire httpql jar flow rule macro convert", false, "a recording becomes a macro, and is proved by running it with the Send it is given"},
	"session":      {"wire httpql jar flow script rule macro", false, "decides about flows by rules, and recovers by macros"},

	"upstream": {"wire flow", false, "sends a flow; does not know why"},
	"proxy":    {"wire flow", false, "receives a flow; certificates come by a function"},

	"browser": {"jar macro rule", false, "makes the logins that macros describe, in a process; sessions and the proxy it goes through come as addresses and functions"},

	"store/seal":      {"", false, "bytes and a key; draws nonces"},
	"store/index":     {"httpql", true, "what a query may be true of, as SQL and bitmaps; runs no statement"},
	"store":           {"wire httpql jar flow store/seal store/index", false, "what survives a restart: flows with their messages, cookies, and the rest by opaque keys"},
	"store/storetest": {"store store/seal", false, "one test on both kinds of projects"},
	"store/archive":   {"store wire redact", false, "a project as one file; it reads bodies to take credentials out"},
	"config":          {"wire httpql jar flow script rule macro", false, "the file, compiled to rules, macros and scripts; and the files of cookies that it names"},

	"internal/leak":    {"", false, "what the tests of a package end with; no other code imports it"},
	"internal/testenv": {"wire ca", false, "an origin for tests and for the demonstration; it must not know Holdfast"},
	".":                {"wire jar ca flow rule macro convert config proxy session store upstream browser", false, "puts the parts together; what it records has the form of convert"},
	"learn":            {". jar flow httpql macro macro/derive convert config rule session wire", false, "asks an application, and has a Holdfast prove what was learnt"},
	"control":          {". learn httpql jar flow macro macro/derive convert rule redact config session store wire", false, "what can be done to a running Holdfast, as one table; it asks the top, the engine, the jars, and the history by conditions, and has flows of the history become macros and configurations"},
	"control/params":   {"control", true, "the table's parameters, described and checked for every face"},
	"api":              {". control control/params flow session", false, "the table by HTTP; it knows errors of flows, and counts flows and changes of sessions"},
	"mcp":              {"control control/params flow", false, "the table as tools for models; errors of flows say what to do next"},
	"api/client":       {"control", false, "asks by HTTP, with the table's types"},
	"cmd/holdfast":     {". learn control api api/client mcp jar ca flow macro macro/derive convert config httpql proxy session store store/archive internal/testenv wire", false, "flags and words; kinds of listeners and patterns of hosts are flags, files of cookies and recordings arguments, and a macro's messages are shown"},
	"bench":            {"", false, "measures programs from outside, as a stranger"},
}

// noNetHTTP are the packages whose model is the bytes: net/http would rewrite
// them.
var noNetHTTP = []string{"wire", "httpql", "jar", "flow", "script", "rule", "macro", "macro/derive", "convert", "session", "proxy", "upstream"}

// impure may not be imported by pure packages.
var impure = []string{"net", "net/http", "os", "os/exec", "crypto/rand", "math/rand", "math/rand/v2", "syscall"}

var bannedNames = []string{"util", "utils", "common", "helper", "helpers", "types", "core", "base", "pkg", "misc"}

// Budgets of the tail: an average is no help to the one who must read the
// longest file.
const (
	maxFileLines = 700
	maxFuncLines = 100
	minDocLines  = 8
	maxDocLines  = 80
)

func TestArchitecture(t *testing.T) {
	problems, packages := inspect(t, ".", drawing)
	for _, p := range problems {
		t.Error(p)
	}
	for dir := range drawing {
		if !packages[dir] {
			t.Errorf("the drawing has package %s, which does not exist", dir)
		}
	}
}

// TestArchitectureSeesViolations breaks each rule once, so that the test above
// is known to be able to fail.
func TestArchitectureSeesViolations(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("// a line\n", maxFileLines)
	body := strings.Repeat("\t_ = 1\n", maxFuncLines)
	doc := strings.Repeat("// A line of the package doc.\n", minDocLines)
	files := map[string]string{
		"wire/up.go":        doc + "package wire\n\nimport _ \"" + module + "/session\"\n",
		"wire/sock.go":      "package wire\n\nimport _ \"net\"\n",
		"wire/go.go":        "package wire\n\nfunc f() { go f() }\n",
		"session/nodoc.go":  "package session\n",
		"session/long.go":   "package session\n\n" + long,
		"session/func.go":   "package session\n\nfunc f() {\n" + body + "}\n",
		"session/init.go":   "package session\n\nfunc init() {}\n",
		"session/exit.go":   "package session\n\nimport \"os\"\n\nfunc g() { os.Exit(1) }\n",
		"session/x_test.go": "package session\n\nimport \"time\"\n\nfunc h() { time.Sleep(1) }\n",
		"session/var.go":    "package session\n\nvar count int\n",
		"session/http.go":   "package session\n\nimport _ \"net/http\"\n",
		"util/util.go":      doc + "package util\n",
	}
	for name, src := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	problems, _ := inspect(t, dir, drawing)
	got := strings.Join(problems, "\n")
	for _, want := range []string{
		"wire/up.go: wire may not import session",
		"wire/sock.go: pure package wire imports net",
		"wire/go.go:3: pure package wire starts a goroutine",
		"session: no package doc",
		"session/long.go: 702 lines",
		"session/func.go:3: function f has 102 lines",
		"session/init.go:3: init",
		"session/exit.go:5: os.Exit",
		"session/x_test.go:5: time.Sleep",
		"session/var.go:3: package-level variable count",
		"session/http.go: session imports net/http",
		"util: not in the drawing",
		"util: util is no name for a package",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not seen: %s", want)
		}
	}
	if t.Failed() {
		t.Log("seen:\n" + got)
	}
}

// inspect reads every Go file below root and lists what breaks a rule.
func inspect(t *testing.T, root string, drawing map[string]stratum) (problems []string, packages map[string]bool) {
	t.Helper()
	in := inspector{root: root, drawing: drawing, docs: map[string]int{}, packages: map[string]bool{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			return in.file(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range slices.Sorted(maps.Keys(in.packages)) {
		in.pkg(dir)
	}
	return in.problems, in.packages
}

type inspector struct {
	root     string
	drawing  map[string]stratum
	docs     map[string]int // package docs seen
	packages map[string]bool
	problems []string
}

func (in *inspector) report(format string, args ...any) {
	in.problems = append(in.problems, fmt.Sprintf(format, args...))
}

// stratumOf is the line of the drawing that a folder falls under: its own, or
// that of the nearest folder above.
func (in *inspector) stratumOf(dir string) (name string, s stratum, ok bool) {
	for d := dir; ; d = filepath.Dir(d) {
		if s, ok := in.drawing[d]; ok && (d != "." || dir == ".") {
			return d, s, true
		}
		if d == "." {
			return "", stratum{}, false
		}
	}
}

func (in *inspector) pkg(dir string) {
	if _, _, ok := in.stratumOf(dir); !ok {
		in.report("%s: not in the drawing of arch_test.go", dir)
	}
	if slices.Contains(bannedNames, filepath.Base(dir)) {
		in.report("%s: %s is no name for a package: it says nothing", dir, filepath.Base(dir))
	}
	if in.docs[dir] == 0 {
		in.report("%s: no package doc", dir)
	} else if in.docs[dir] > 1 {
		in.report("%s: %d package docs", dir, in.docs[dir])
	}
}

func (in *inspector) file(path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(in.root, path)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, parser.ParseComments)
	if err != nil {
		return err
	}
	dir, test := filepath.ToSlash(filepath.Dir(name)), strings.HasSuffix(name, "_test.go")
	if lines := strings.Count(string(src), "\n"); lines > maxFileLines {
		in.report("%s: %d lines; %d are allowed", name, lines, maxFileLines)
	}
	if !test {
		in.packages[dir] = true
		in.doc(name, dir, fset, f)
		in.imports(name, dir, f)
	}
	in.declarations(name, dir, test, fset, f)
	return nil
}

func (in *inspector) doc(name, dir string, fset *token.FileSet, f *ast.File) {
	if f.Doc == nil {
		return
	}
	in.docs[dir]++
	n := fset.Position(f.Doc.End()).Line - fset.Position(f.Doc.Pos()).Line + 1
	if n < minDocLines || n > maxDocLines {
		in.report("%s: the package doc has %d lines; %d to %d are wanted", name, n, minDocLines, maxDocLines)
	}
}

func (in *inspector) imports(name, dir string, f *ast.File) {
	own, s, _ := in.stratumOf(dir)
	for _, spec := range f.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		if s.pure && slices.Contains(impure, path) {
			in.report("%s: pure package %s imports %s", name, dir, path)
		}
		if path == "net/http" && slices.Contains(noNetHTTP, own) {
			in.report("%s: %s imports net/http, which rewrites messages", name, dir)
		}
		target, ours := strings.CutPrefix(path, module)
		if !ours {
			continue
		}
		target = strings.TrimPrefix(target, "/")
		if target == "" {
			target = "."
		}
		to, _, ok := in.stratumOf(target)
		if !ok {
			to = target
		}
		if to != own && !slices.Contains(strings.Fields(s.imports), to) {
			in.report("%s: %s may not import %s", name, dir, target)
		}
	}
}

func (in *inspector) declarations(name, dir string, test bool, fset *token.FileSet, f *ast.File) {
	_, s, _ := in.stratumOf(dir)
	line := func(n ast.Node) int { return fset.Position(n.Pos()).Line }
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if n := fset.Position(d.End()).Line - line(d) + 1; n > maxFuncLines {
				in.report("%s:%d: function %s has %d lines; %d are allowed", name, line(d), d.Name.Name, n, maxFuncLines)
			}
			if d.Name.Name == "init" && d.Recv == nil {
				in.report("%s:%d: init hides when things happen", name, line(d))
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if ok && !test && d.Tok == token.VAR && len(v.Values) == 0 && !embeds(d) {
					in.report("%s:%d: package-level variable %s: state travels as an argument", name, line(v), v.Names[0].Name)
				}
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if s.pure && !test {
				in.report("%s:%d: pure package %s starts a goroutine", name, line(n), dir)
			}
		case *ast.SelectorExpr:
			in.selector(name, dir, test, s, line(n), n)
		}
		return true
	})
}

// embeds reports whether a declaration is filled by the compiler from a file.
func embeds(d *ast.GenDecl) bool {
	if d.Doc == nil {
		return false
	}
	return slices.ContainsFunc(d.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

func (in *inspector) selector(name, dir string, test bool, s stratum, line int, n *ast.SelectorExpr) {
	pkg, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	call := pkg.Name + "." + n.Sel.Name
	switch {
	case call == "time.Sleep" && test:
		in.report("%s:%d: time.Sleep in a test: wait for what you wait for", name, line)
	case call == "time.Now" && s.pure && !test:
		in.report("%s:%d: pure package %s reads the clock", name, line, dir)
	case (call == "os.Exit" || call == "log.Fatal" || call == "log.Fatalf") && !strings.HasPrefix(dir, "cmd/") && !strings.HasPrefix(dir, "bench") && !test:
		in.report("%s:%d: %s outside of cmd", name, line, call)
	}
}
