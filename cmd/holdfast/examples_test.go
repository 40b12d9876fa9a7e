package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

const examplesDir = "../../docs/examples"

// example copies a file of docs/examples for the script's origin:
//
//	example FILE [OLD NEW]…
//
// https://shop.example becomes the origin, a host of the domain example the
// address that it is at, and each OLD its NEW before that.
func example(ts *testscript.TestScript, neg bool, args []string) {
	raw, err := os.ReadFile(filepath.Join(examplesDir, args[0]))
	ts.Check(err)
	pairs := append(args[1:], "https://shop.example", ts.Getenv("ORIGIN"), "shop.example", "127.0.0.1")
	to := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(to), 0o755))
	ts.Check(os.WriteFile(to, []byte(strings.NewReplacer(pairs...).Replace(string(raw))), 0o600))
}

// portals are the portals of running scripts, by their work directories.
var portals = &sync.Map{}

func endPortal(ts *testscript.TestScript, neg bool, args []string) {
	p, ok := portals.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("this script has no portal yet")
	}
	p.(*testenv.PortalServer).EndSessions()
}

// TestEverySituationHasAScript holds the table of docs/examples/README.md, the
// files that it names and the scripts example_*.txtar to each other.
func TestEverySituationHasAScript(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(examplesDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| \[.*\]\(#.*\) \| (.*) \| (.*) \| (\w+) \|$`).FindAllStringSubmatch(string(page), -1)
	if len(rows) != 10 {
		t.Errorf("the table has %d situations; want ten", len(rows))
	}
	scripts, err := filepath.Glob("testdata/script/example_*.txtar")
	if err != nil || len(scripts) != len(rows) {
		t.Errorf("%d scripts for %d situations (%v)", len(scripts), len(rows), err)
	}
	file := regexp.MustCompile(`\]\(([\w/.-]+)\)`)
	for _, row := range rows {
		script, err := os.ReadFile("testdata/script/example_" + row[3] + ".txtar")
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range file.FindAllStringSubmatch(row[1], -1) {
			if !strings.Contains(string(script), "example "+m[1]) {
				t.Errorf("example_%s.txtar does not run %s", row[3], m[1])
			}
		}
	}
}
