package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryClientOfTheDocsHasAScript holds docs/clients.md and the scripts to
// each other: each line of its table names scripts that run the command, and
// each script is named.
func TestEveryClientOfTheDocsHasAScript(t *testing.T) {
	doc, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts := map[string]string{}
	paths, err := filepath.Glob("testdata/script/client_*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		scripts[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "client_"), ".txtar")] = string(raw)
	}
	command := regexp.MustCompile("^`(?:sh -c '(?:[A-Z_]+=\\S+ )?)?(\\w+)")
	named, rows := map[string]bool{}, 0
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 3 || !strings.Contains(cells[1], "`") || strings.HasPrefix(cells[0], "| client") {
			continue
		}
		rows++
		m := command.FindStringSubmatch(cells[1])
		if m == nil {
			t.Errorf("no command in %q", cells[1])
			continue
		}
		for name := range strings.SplitSeq(strings.TrimSuffix(cells[2], " |"), ", ") {
			named[name] = true
			if !strings.Contains(scripts[name], m[1]) {
				t.Errorf("there is no script client_%s.txtar that runs %s", name, m[1])
			}
		}
	}
	if rows < 10 {
		t.Errorf("the table has %d lines; was it found?", rows)
	}
	for name := range scripts {
		if !named[name] && !strings.Contains(string(doc), "test "+name) {
			t.Errorf("docs/clients.md says nothing of client_%s.txtar", name)
		}
	}
}
