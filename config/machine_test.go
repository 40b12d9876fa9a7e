package config_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
)

// uses are texts that use something of the machine: what a refusal says.
func uses() map[string]string {
	step := "macros: [{name: m, steps: [{request: \"GET https://a.example/ HTTP/1.1\"}, %s]}]\n"
	act := "rules: [{name: r, scope: {pattern: a.example, target: host}, actions: [%s]}]\n"
	return map[string]string{
		"variables: {A: \"${env:SECRET}\"}\n":                     "read the environment variable SECRET",
		"variables: {A: \"${file:key.txt}\"}\n":                   "read the file ",
		"identities: {a: {variables: {A: \"x${env:SECRET}\"}}}\n": "read the environment variable SECRET",
		"identities: {a: {totp: \"${env:SECRET}\"}}\n":            "read the environment variable for one-time codes: SECRET",
		"identities: {a: {cookies: jar.txt}}\n":                   "read the cookies in ",
		"cookie_jar: {import: jar.txt}\n":                         "read the cookies in ",
		"identities: {a: {auth: [{type: basic, username: u, password: \"${env:SECRET}\", hosts: [a.example]}]}}\n":             "read the environment variable for a password: SECRET",
		"identities: {a: {auth: [{type: client_certificate, certificate: {pkcs12: a.p12}, hosts: [a.example]}]}}\n":            "read the certificate or key in ",
		"origins: [{hosts: [a.example], certificate: {pem: a.pem, key: b.pem}}]\n":                                             "read the certificate or key in ",
		"origins: [{hosts: [a.example], ca: a.pem}]\n":                                                                         "read the certificate or key in ",
		"upstream: [{proxy: \"http://u:${env:SECRET}@10.0.0.1:1\"}]\n":                                                         "read the environment variable for a password: SECRET",
		"proxy_password: \"${env:SECRET}\"\n":                                                                                  "read the environment variable for a password: SECRET",
		"browser: {path: /bin/sh}\n":                                                                                           "run the browser /bin/sh",
		fmt.Sprintf(step, "{exec: {command: [sh, \"-c\", \"true of-mine\"], token_name: T}}"):                                  "run the program sh:",
		fmt.Sprintf(step, "{exec: {command: [\"${env:SECRET}\"], token_name: T}}"):                                             "run the program ${env:SECRET}",
		fmt.Sprintf(step, "{script: {file: sign.js}}"):                                                                         "read the script ",
		fmt.Sprintf(act, "run_script: {file: sign.js, on: request}"):                                                           "read the script ",
		strings.Replace(fmt.Sprintf(step, "{script: \"1\"}"), "name: m,", "name: m, inputs: {a: \"${file:/etc/passwd}\"},", 1): "read the file /etc/passwd",
	}
}

// What a text uses of the machine is refused before it is opened or looked up, but
// for what the file uses that it comes over.
func TestOnlyWhatAFileUses(t *testing.T) {
	touched := false
	o := config.Options{
		Env:      func(string) (string, bool) { touched = true; return "JBSWY3DPEHPK3PXP", true },
		ReadFile: func(string) ([]byte, error) { touched = true; return nil, errors.New("not there") },
		Only:     parse(t, "rules: []\n"),
	}
	for text, want := range uses() {
		_, _, err := config.Parse("c.yaml", []byte(text), o)
		if err == nil || !strings.Contains(err.Error(), "only a configuration file may "+want) || !strings.Contains(err.Error(), "--api-trusted") || strings.Contains(err.Error(), "of-mine") {
			t.Errorf("%s: got %v", text, err)
		}
	}
	if touched {
		t.Error("a file was opened, or the environment looked at")
	}
}

// The very same thing may be used, for the same only.
func TestTheSameThingMayBeUsed(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sign.js"), "1")
	name := filepath.Join(dir, "c.yaml")
	o := config.Options{Env: func(string) (string, bool) { return "JBSWY3DPEHPK3PXP", true }}
	const text = "variables: {A: \"${env:A}\"}\nidentities: {a: {totp: \"${env:T}\"}}\n" +
		"macros: [{name: m, steps: [{request: \"GET https://a.example/ HTTP/1.1\"}, {exec: {command: [one, two], token_name: X}}, {script: {file: sign.js}}]}]\n"
	file, _, err := config.Parse(name, []byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Only = file
	if _, _, err := config.Parse(name, []byte(strings.Replace(text, "A: \"${", "B: \"a ${", 1)), o); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{{"env:A", "env:T"}, {"[one, two]", "[one two]"}, {"[one, two]", "[one, two, three]"}, {"env:A", "file:sign.js"}, {"env:A", "env:B"}} {
		if _, _, err := config.Parse(name, []byte(strings.Replace(text, change[0], change[1], 1)), o); err == nil || !strings.Contains(err.Error(), "only a configuration file") {
			t.Errorf("%v: got %v", change, err)
		}
	}
	entry := config.Entry{Kind: config.EntryMacro, Name: "n", Text: "{name: n, steps: [{request: \"GET https://a.example/ HTTP/1.1\"}, {exec: {command: [three], token_name: X}}]}"}
	if _, _, err := file.With([]config.Entry{entry}, file); err == nil || !strings.Contains(err.Error(), "macro n:1:") {
		t.Errorf("a macro over it: got %v", err)
	}
	if _, _, err := file.With([]config.Entry{entry}, nil); err != nil {
		t.Error(err)
	}
}

func TestTextThatLooksLikeAReference(t *testing.T) {
	file := parse(t, "variables: {A: \"a${text:$}{file:/etc/passwd}b\"}\n")
	if got := file.Variables["A"]; got != "a${file:/etc/passwd}b" {
		t.Errorf("got %q", got)
	}
}
