package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
)

func TestLoadReadsTheProcessAndItsFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOLDFAST_TEST_PASS", "from the environment")
	write(t, filepath.Join(dir, "sub", "key.txt"), "from a file\n")
	path := filepath.Join(dir, "c.yaml")
	write(t, path, "variables: {A: \"${env:HOLDFAST_TEST_PASS}\", B: \"${file:sub/key.txt}\", C: \"${file:"+filepath.Join(dir, "sub", "key.txt")+"}\"}\n")
	file, _, err := config.Load(path, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"A": "from the environment", "B": "from a file", "C": "from a file"} {
		if got := file.Variables[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if file.Name != path || !file.AutoExtract || !file.AutoInject {
		t.Errorf("got %+v", file)
	}
}

func TestLoadOfNoFileSaysTheNextStep(t *testing.T) {
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "none.yaml"), "directory": t.TempDir()} {
		_, _, err := config.Load(path, config.Options{})
		var errs config.Errors
		if !errors.As(err, &errs) || len(errs) != 1 || errs[0].File != path || errs[0].Line != 0 || errs[0].Next == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	write(t, path, "variables: {A: \"${file:big}\"}\n")
	write(t, filepath.Join(dir, "big"), strings.Repeat("x", config.MaxFileSize+1))
	if _, _, err := config.Load(path, config.Options{}); err == nil || !strings.Contains(err.Error(), "too large for a variable") {
		t.Errorf("a large file of a variable: got %v", err)
	}
	write(t, filepath.Join(dir, "big"), strings.Repeat("x", config.MaxFileSize))
	if _, _, err := config.Load(path, config.Options{}); err != nil {
		t.Errorf("a file of just the limit: got %v", err)
	}
	write(t, path, "# "+strings.Repeat("x", config.MaxFileSize))
	if _, _, err := config.Load(path, config.Options{}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a large configuration: got %v", err)
	}
}

func TestBytesThatAreNoText(t *testing.T) {
	cases := []struct{ name, src, want string }{
		{"Latin-1", "rules: []\nvariables: {A: caf\xe9}\n", "f.yaml:2:19: the file is not UTF-8 from here on"},
		{"UTF-16", "\xff\xfer\x00", "f.yaml:1:1: the file is not UTF-8 from here on"},
		{"control character", "rules: [\x01]\n", "the file holds a control character"},
	}
	for _, c := range cases {
		_, _, err := config.Parse("f.yaml", []byte(c.src), everything())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if _, _, err := config.Parse("f.yaml", []byte("\ufeffrulez: []\n"), everything()); err == nil || !strings.HasPrefix(err.Error(), "f.yaml:1:1: ") {
		t.Errorf("a byte order mark: got %v", err)
	}
	o := everything()
	o.ReadFile = func(string) ([]byte, error) { return []byte("a\x00b"), nil }
	if _, _, err := config.Parse("f.yaml", []byte("variables: {A: \"${file:x}\"}"), o); err == nil || !strings.Contains(err.Error(), "is not text") {
		t.Errorf("a binary file of a variable: got %v", err)
	}
}

// The YAML library counts more line ends than \n, so the excerpts must too.
func TestPlacesWithEveryLineEnd(t *testing.T) {
	for _, end := range []string{"\n", "\r\n", "\r", "\u0085", "\u2028"} {
		_, _, err := config.Parse("f.yaml", []byte("rules: []"+end+"nope: 1"+end), everything())
		errs, ok := err.(config.Errors)
		if !ok || len(errs) != 1 || errs[0].Line != 2 || errs[0].Excerpt[:5] != "nope:" {
			t.Errorf("%q: got %+v", end, err)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
