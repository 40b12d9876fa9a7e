package main

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/holdfast-proxy/holdfast/config"
)

const repository = "../.."

// page is a Markdown file: its lines, and which of them are code.
type page struct {
	name    string // relative to the repository
	lines   []string
	code    []bool   // in a block that is fenced or indented
	blocks  []block  // fenced ones
	anchors []string // of its headings
}

type block struct {
	line     int // of its first line of text, from 1
	language string
	text     string
}

func documents(t *testing.T) map[string]*page {
	t.Helper()
	pages := map[string]*page{}
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != repository && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "node_modules", "bin", "build", "dist", "vendor"}, d.Name())):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(repository, path)
		pages[filepath.ToSlash(name)] = readPage(filepath.ToSlash(name), string(raw))
		return err
	})
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	return pages
}

func readPage(name, text string) *page {
	p := &page{name: name, lines: strings.Split(text, "\n")}
	p.code = make([]bool, len(p.lines))
	fence, blank := "", true
	for i, line := range p.lines {
		trimmed := strings.TrimSpace(line)
		mark := trimmed[:min(3, len(trimmed))]
		switch {
		case fence != "" && trimmed == fence:
			fence = ""
		case fence != "":
			p.code[i] = true
			b := &p.blocks[len(p.blocks)-1]
			b.text += line + "\n"
		case mark == "```" || mark == "~~~":
			fence = mark
			p.blocks = append(p.blocks, block{line: i + 2, language: strings.TrimPrefix(trimmed, mark)})
		case strings.HasPrefix(line, "    ") && (blank || i > 0 && p.code[i-1]):
			p.code[i] = true
		case strings.HasPrefix(line, "#"):
			p.anchors = append(p.anchors, p.anchor(strings.TrimSpace(strings.TrimLeft(line, "#"))))
		}
		blank = trimmed == ""
	}
	return p
}

var markdownLink = regexp.MustCompile(`\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)`)

// anchor is what a heading is called in addresses, by GitHub's rules.
func (p *page) anchor(heading string) string {
	heading = markdownLink.ReplaceAllString(heading, "$1")
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		}
	}
	name := b.String()
	for n := 1; slices.Contains(p.anchors, name); n++ {
		name = fmt.Sprintf("%s-%d", b.String(), n)
	}
	return name
}

// TestDocumentsLinkToWhatIsThere: each relative link of each page leads to a
// file, and to a heading of it; and the README leads to each page of the manual.
func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	pages := documents(t)
	code := regexp.MustCompile("`[^`]*`")
	linked, links := map[string]bool{}, 0
	for name, p := range pages {
		for i, line := range p.lines {
			if p.code[i] {
				continue
			}
			// The text of a link may be code, its address never is.
			line = code.ReplaceAllStringFunc(line, func(s string) string { return strings.Repeat("x", len(s)) })
			for _, m := range markdownLink.FindAllStringSubmatch(line, -1) {
				target, err := url.Parse(m[2])
				if err != nil {
					t.Errorf("%s:%d: %v", name, i+1, err)
					continue
				}
				if target.Scheme != "" {
					continue
				}
				links++
				to := name
				if target.Path != "" {
					to = filepath.ToSlash(filepath.Join(filepath.Dir(name), target.Path))
				}
				if name == "README.md" {
					linked[to] = true
				}
				if _, err := os.Stat(filepath.Join(repository, to)); err != nil {
					t.Errorf("%s:%d: there is no %s", name, i+1, to)
				} else if target.Fragment != "" && (pages[to] == nil || !slices.Contains(pages[to].anchors, target.Fragment)) {
					t.Errorf("%s:%d: %s has no heading #%s", name, i+1, to, target.Fragment)
				}
			}
		}
	}
	if links < 150 {
		t.Errorf("%d links were found; were they read?", links)
	}
	for name := range pages {
		if filepath.Dir(name) == "docs" && !linked[name] {
			t.Errorf("README.md does not lead to %s", name)
		}
	}
}

// TestDocumentsCommandLines: what a block of a page shows as a command line of
// holdfast is one, with flags that there are.
func TestDocumentsCommandLines(t *testing.T) {
	found := 0
	for name, p := range documents(t) {
		for i := 0; i < len(p.lines); i++ {
			first := i + 1
			if !p.code[i] {
				continue
			}
			line := p.lines[i]
			for strings.HasSuffix(line, `\`) && i+1 < len(p.lines) {
				i++
				line = strings.TrimSuffix(line, `\`) + p.lines[i]
			}
			for _, words := range commandLines(line) {
				found++
				if err := parses(words); err != nil {
					t.Errorf("%s:%d: %s: %v", name, first, strings.Join(words, " "), err)
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("%d command lines were found; were they read?", found)
	}
}

// parses reports what is wrong with the words behind holdfast.
func parses(words []string) error {
	root := rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultHelpFlag()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.Name() == "help" {
		_, _, err := root.Find(cmd.Flags().Args())
		return err
	}
	if !cmd.Runnable() && len(cmd.Flags().Args()) > 0 {
		return fmt.Errorf("%s has no command %s", cmd.CommandPath(), cmd.Flags().Arg(0))
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// commandLines splits a line of a shell into the words of each holdfast in it,
// without its own name. It knows quotes, variables in front, pipes, lists,
// redirections, comments and command substitution.
func commandLines(line string) (all [][]string) {
	var words []string
	var word strings.Builder
	quote, open := rune(0), false
	end := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	flush := func() {
		end()
		for len(words) > 0 && (words[0] == "$" || words[0] == "exec" || regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0])) {
			words = words[1:]
		}
		if len(words) > 0 && words[0] == "holdfast" {
			args := words[1:]
			if at := slices.IndexFunc(args, func(w string) bool { return strings.HasPrefix(w, ">") || strings.HasPrefix(w, "2>") }); at >= 0 {
				args = args[:at]
			}
			all = append(all, args)
		}
		words = nil
	}
	for i, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ' || r == '\t':
			end()
		case r == '#' && !open:
			flush()
			return all
		case r == '|' || r == ';' || r == '&' || r == '(' || r == ')' && strings.Contains(line[:i], "("):
			flush()
		default:
			open = true
			word.WriteRune(r)
		}
	}
	flush()
	return all
}

// TestDocumentsConfigurationsLoad: a YAML block with rules is a whole file, and
// without mistakes. (Those of docs/configuration.md have a test in config, which
// knows the files that they name.)
func TestDocumentsConfigurationsLoad(t *testing.T) {
	found := 0
	for name, p := range documents(t) {
		for _, b := range p.blocks {
			if name == "docs/configuration.md" || b.language != "yaml" || !regexp.MustCompile(`(?m)^rules:`).MatchString(b.text) {
				continue
			}
			found++
			src := strings.Repeat("\n", b.line-1) + b.text // so that lines are the page's
			_, warnings, err := config.Parse(name, []byte(src), config.Options{
				Env:      func(string) (string, bool) { return "value", true },
				ReadFile: func(string) ([]byte, error) { return []byte("value"), nil },
			})
			if err != nil {
				t.Error(err)
			}
			if len(warnings) > 0 {
				t.Errorf("an example should not be warned about:\n%s", warnings)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d configurations were found; were they read?", found)
	}
}
