package config_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/config"
)

// everything stands in for a machine that has every variable and every file.
func everything() config.Options {
	return config.Options{
		Env:      func(string) (string, bool) { return "value", true },
		ReadFile: certificateFiles,
	}
}

const manual = "../docs/configuration.md"

var yamlBlock = regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```\n")

// Every YAML block of the manual is a whole file, and loads.
func TestManualBlocksLoad(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatchIndex(string(page), -1)
	if len(blocks) < 7 {
		t.Fatalf("%s has %d YAML blocks; some are missing", manual, len(blocks))
	}
	for _, b := range blocks {
		above := strings.Count(string(page[:b[2]]), "\n")
		src := strings.Repeat("\n", above) + string(page[b[2]:b[3]]) + "\n" // so that lines are the page's
		if _, warnings, err := config.Parse(manual, []byte(src), everything()); err != nil {
			t.Errorf("%v", err)
		} else if len(warnings) > 0 && strings.Contains(src, "rules:") {
			t.Errorf("an example should not be warned about:\n%s", warnings)
		}
	}
}

// Every key and every named choice of the format is on the manual's page.
func TestManualNamesEveryKey(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	tables := config.Tables()
	if len(tables) == 0 {
		t.Fatal("the decoder knows no keys")
	}
	for table, keys := range tables {
		for _, key := range keys {
			if !strings.Contains(string(page), "`"+key+"`") && !strings.Contains(string(page), "{"+key+":") && !strings.Contains(string(page), ", "+key+":") {
				t.Errorf("%s: key %q of %s is not described", manual, key, table)
			}
		}
	}
	for _, word := range config.Words() {
		if !strings.Contains(string(page), "`"+word+"`") {
			t.Errorf("%s: %q is not described", manual, word)
		}
	}
}

// docs/keys.md is what the decoder says of itself; -update writes it.
func TestReferenceIsWhatIsRead(t *testing.T) {
	const path = "../docs/keys.md"
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	got, untitled := config.WriteReference(string(page))
	for _, name := range untitled {
		t.Errorf("%q has no line in titles: say under which heading of %s it is described", name, manual)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what the decoder reads; run this test with -update, and read what changes (-want +got):\n%s", path, diff)
	}
}

// A key that a table of the manual describes is one that the decoder reads.
func TestManualNamesNoOtherKey(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, keys := range config.Tables() {
		for _, key := range keys {
			known[key] = true
		}
	}
	rows, table := 0, false
	for i, line := range strings.Split(string(page), "\n") {
		switch {
		case strings.HasPrefix(line, "| key"):
			table = true
		case !strings.HasPrefix(line, "|"):
			table = false
		case table:
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(first, -1) {
				rows++
				if !known[m[1]] {
					t.Errorf("%s:%d: there is no key %s", manual, i+1, m[1])
				}
			}
		}
	}
	if rows < 200 {
		t.Errorf("%d keys were found in the tables; were they read?", rows)
	}
}

func TestExamplesLoad(t *testing.T) {
	const dir = "../docs/examples"
	paths, err := fs.Glob(os.DirFS(dir), "*.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("%s holds %d examples, error %v", dir, len(paths), err)
	}
	for _, name := range paths {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			file, warnings, err := config.Parse(path, src, everything())
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) > 0 {
				t.Errorf("an example should not be warned about:\n%s", warnings)
			}
			if len(file.Rules) == 0 || len(file.Macros) == 0 {
				t.Errorf("%s", file)
			}
		})
	}
}
