package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-proxy/holdfast/config"
)

// Whatever the bytes are, there is a file or there are errors, each of them at
// a place that exists, with a next step.
func FuzzParse(f *testing.F) {
	seeds := 0
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if ext := filepath.Ext(file.Name); ext == ".yaml" || ext == ".json" {
				f.Add(file.Data)
				seeds++
			}
		}
	}
	examples, _ := filepath.Glob("../docs/examples/*.yaml")
	for _, path := range examples {
		src, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
		seeds++
	}
	if seeds < 60 {
		f.Fatalf("only %d seeds", seeds)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, _, err := config.Parse("f.yaml", src, everything())
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v and error %v", file, err)
		}
		if err == nil {
			return
		}
		errs, ok := err.(config.Errors)
		if !ok || len(errs) == 0 || len(errs) > config.MaxProblems+1 {
			t.Fatalf("got %T of %d", err, len(errs))
		}
		for _, p := range errs {
			if p.What == "" || p.Line < 0 || p.Line > 0 && p.Column < 1 || p.Caret > len([]rune(p.Excerpt))+1 {
				t.Errorf("%+v", p)
			}
		}
	})
}

// No change of one place in a file brings a password out of it.
func FuzzSecretsStayInside(f *testing.F) {
	const secret = "S3cr3t!S3cr3t"
	const src = `variables: {A: "` + secret + `", B: '` + secret + `', C: ` + secret + `} # ` + secret + `
identities:
  alice: {variables: {USER: alice, PASS: ` + secret + `}}
  bob:
    variables:
      PASS: |
        ` + secret + `
      PIN: "${env:X}` + secret + `"
      KEY: &key >-
        x
        ` + secret + `
macros:
  - name: login
    steps:
      - request: |
          POST https://a.example/login?key=` + secret + ` HTTP/1.1
          Authorization: Basic ` + secret + `

          {"username":"{{USER}}","password":"` + secret + `"}
      - request: "POST https://a.example/login HTTP/1.1\r\nX: ` + secret + `\r\n\r\n` + secret + `"
rules:
  - {name: a, scope: {pattern: a.example}, reauth_macro: login, validation: {check_type: {type: StatusCode, value: [401]}}}
`
	for at := 0; at < len(src); at += 7 {
		f.Add(uint16(at), uint8(1), "")
		f.Add(uint16(at), uint8(0), "\n")
		f.Add(uint16(at), uint8(2), "*")
	}
	for _, text := range []string{`"`, "'", "{", "]", ": ", "\n- ", "\t", "#", "&x ", "!!int ", "<<: ", "| ", "{{"} {
		for at := 0; at < len(src); at += 41 {
			f.Add(uint16(at), uint8(1), text)
		}
	}
	f.Fuzz(func(t *testing.T, at uint16, drop uint8, insert string) {
		if int(at) > len(src) || strings.Contains(insert, secret) {
			return
		}
		end := min(int(at)+int(drop), len(src))
		changed := src[:at] + insert + src[end:]
		_, warnings, err := config.Parse("f.yaml", []byte(changed), everything())
		report := fmt.Sprintf("%v %+v %+v", err, err, warnings)
		if errs, ok := err.(config.Errors); ok {
			report += fmt.Sprintf("%q", []config.Problem(errs))
		}
		report += fmt.Sprintf("%q", []config.Problem(warnings))
		if strings.Contains(report, secret) {
			t.Errorf("the secret comes out:\n%s\n%s", report, changed)
		}
	})
}
