package holdfast_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/options.md promises a test for each option of the other tools.
func TestEachOptionNamesItsTest(t *testing.T) {
	page, err := os.ReadFile("docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile(`^script (\w+)$`)
	named := regexp.MustCompile("^`([a-z./]+)` (Test\\w+)(?:/(\\w+))?$")
	rows := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| option |") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		last := strings.TrimSpace(cells[len(cells)-1])
		if m := script.FindStringSubmatch(last); m != nil {
			if _, err := os.Stat(filepath.Join("cmd/holdfast/testdata/script", m[1]+".txtar")); err != nil {
				t.Errorf("%s: there is no script %s", cells[0], m[1])
			}
			continue
		}
		m := named.FindStringSubmatch(last)
		if m == nil {
			t.Errorf("%s: %q names no test", cells[0], last)
			continue
		}
		if !hasTest(t, m[1], m[2], m[3]) {
			t.Errorf("%s: package %s has no test %s", cells[0], m[1], strings.TrimPrefix(last, "`"+m[1]+"` "))
		}
	}
	if rows < 80 {
		t.Errorf("the page has %d options: some are missing", rows)
	}
}

// hasTest looks for a test, and for the name of its case, in the folder.
func hasTest(t *testing.T, folder, test, name string) bool {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(folder, "*_test.go"))
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, body, ok := strings.Cut(string(src), "\nfunc "+test+"(")
		if !ok {
			continue
		}
		if name == "" || strings.Contains(body, `"`+name+`"`) {
			return true
		}
		stored, _ := filepath.Glob(filepath.Join(folder, "testdata", name+"*"))
		return len(stored) > 0
	}
	return false
}
