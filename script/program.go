package script

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

// MaxSource is how long a script can be, in bytes.
const MaxSource = 256 << 10

// regexTime is how long one match of a backtracking regex can take. The engine
// reads it when it compiles a regex and has no other switch for it; it is set
// before anything runs, since nothing may read it at the same time.
var regexTime = limitRegexes(500 * time.Millisecond)

func limitRegexes(d time.Duration) time.Duration {
	regexp2.DefaultMatchTimeout = d
	return d
}

// Program is a script that compiled. It never changes; any goroutine may use
// it.
type Program struct {
	name   string
	text   string
	before int // lines of the file in front of the first one
	limits Limits
	code   *goja.Program
	gets   []string
	sets   []string
}

// Source is a script as it is written.
type Source struct {
	Name   string // of the file that it stands in: traces and errors say it
	Before int    // lines of the file in front of the script's first
	Text   string
	Limits Limits // what is zero is the runner's
}

// An Error says what is wrong with the text of a script.
type Error struct {
	Line    int // of the script, from 1; 0 when the whole is meant
	Column  int // from 1, in characters
	Problem string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

const (
	wrapBefore = "(function () {"
	wrapAfter  = "\n})()"
)

// Compile reads a script. The value of one is that of its last expression, or
// what it returns. Errors are *Error.
func Compile(s Source) (*Program, error) {
	if len(s.Text) > MaxSource {
		return nil, &Error{Problem: fmt.Sprintf("the script has %d bytes; at most %d are read", len(s.Text), MaxSource)}
	}
	p := &Program{name: s.Name, text: s.Text, before: s.Before, limits: s.Limits, gets: namesIn(s.Text, "get|has"), sets: namesIn(s.Text, "set")}
	tree, err := parse(s.Name, s.Text)
	if err != nil { // a return outside of a function is none in here
		wrapped, wrapErr := parse(s.Name, wrapBefore+s.Text+wrapAfter)
		switch {
		case wrapErr == nil:
			tree = wrapped
		case err.Problem == "Illegal return statement":
			lines := strings.Split(s.Text, "\n")
			if wrapErr.Line > len(lines) { // in what stands around it
				last := lines[len(lines)-1]
				return nil, &Error{Line: len(lines), Column: utf8.RuneCountInString(last) + 1, Problem: "Unexpected end of input"}
			}
			if wrapErr.Line == 1 {
				wrapErr.Column -= len(wrapBefore)
			}
			return nil, wrapErr
		default:
			return nil, err
		}
	}
	if at, ok := findBigInt(reflect.ValueOf(tree.Body), 0); ok {
		pos := tree.File.Position(int(at) - tree.File.Base())
		return nil, &Error{Line: pos.Line, Column: pos.Column, Problem: "there is no BigInt in scripts: its operations cannot be bounded"}
	}
	code, compileErr := goja.CompileAST(tree, false)
	if compileErr != nil {
		return nil, located(compileErr)
	}
	p.code = code
	return p, nil
}

// Name is what traces call the program: the file that it stands in.
func (p *Program) Name() string { return p.name }

// Gets and Sets are the variables that the text reads and sets by a name that
// is written out.
func (p *Program) Gets() []string { return p.gets }

// Sets is described at Gets.
func (p *Program) Sets() []string { return p.sets }

// String is the name.
func (p *Program) String() string { return p.name }

// place is a line of the program as a line of its file.
func (p *Program) place(line int) string { return fmt.Sprintf("%s:%d", p.name, line+p.before) }

func parse(name, text string) (*ast.Program, *Error) {
	tree, err := parser.ParseFile(nil, name, text, 0, parser.WithDisableSourceMaps) // which would be read from the disk
	if err == nil {
		return tree, nil
	}
	var list parser.ErrorList
	if errors.As(err, &list) && len(list) > 0 {
		return nil, &Error{Line: list[0].Position.Line, Column: list[0].Position.Column, Problem: list[0].Message}
	}
	return nil, &Error{Problem: err.Error()}
}

// located is an error of the compiler with its place.
func located(err error) *Error {
	var syntax *goja.CompilerSyntaxError
	if !errors.As(err, &syntax) || syntax.File == nil {
		return &Error{Problem: err.Error()}
	}
	at := syntax.File.Position(syntax.Offset)
	return &Error{Line: at.Line, Column: at.Column, Problem: syntax.Message}
}

// maxTree bounds the depth that findBigInt looks at.
const maxTree = 10000

// findBigInt finds a BigInt that is written out.
func findBigInt(v reflect.Value, depth int) (file.Idx, bool) {
	if depth > maxTree {
		return 0, false
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return 0, false
		}
		if n, ok := v.Interface().(*ast.NumberLiteral); ok {
			_, big := n.Value.(*big.Int)
			return n.Idx, big
		}
		if v.Type() == reflect.TypeFor[*file.File]() {
			return 0, false
		}
		return findBigInt(v.Elem(), depth+1)
	case reflect.Slice:
		for i := range v.Len() {
			if at, ok := findBigInt(v.Index(i), depth+1); ok {
				return at, true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; !v.Type().Field(i).IsExported() || name == "DeclarationList" {
				continue
			}
			if at, ok := findBigInt(v.Field(i), depth+1); ok {
				return at, true
			}
		}
	}
	return 0, false
}

// namesIn finds the names in variables.get("NAME") and the like.
func namesIn(text, methods string) (names []string) {
	calls := regexp.MustCompile(`\bvariables\s*\.\s*(?:` + methods + `)\(\s*["'` + "`" + `]([A-Za-z0-9_.-]+)["'` + "`" + `]`)
	for _, m := range calls.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// mentions reports whether the text says a word.
func (p *Program) mentions(word string) bool { return strings.Contains(p.text, word) }
