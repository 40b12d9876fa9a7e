package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestBuiltinTable(t *testing.T) {
	table, err := loadTable("")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, w := range works(settings{}) {
		known[w.name] = true
	}
	for _, p := range table {
		if p.About == "" {
			t.Errorf("%s: says nothing about itself", p.Name)
		}
		for _, w := range slices.Concat(p.Works, p.Without) {
			if !known[w] {
				t.Errorf("%s: no work is called %q", p.Name, w)
			}
		}
		if p.Name != direct && !strings.Contains(strings.Join(p.Command, " ")+p.Files["squid.conf"], "127.0.0.1") {
			t.Errorf("%s: does not listen on loopback only", p.Name)
		}
	}
	defaults, err := choose(table, nil)
	if err != nil || len(defaults) == 0 {
		t.Fatalf("%d defaults, %v", len(defaults), err)
	}
	if _, err := choose(table, []string{"nonesuch"}); err == nil || !strings.Contains(err.Error(), "reference") {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestOwnTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "own.yaml")
	own := "proxies:\n" +
		"  - {name: mine, about: new, command: [mine, '{port}']}\n" +
		"  - {name: squid, about: replaced, command: [squid]}\n"
	if err := os.WriteFile(file, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := loadTable(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := choose(table, []string{"mine", "squid"})
	if err != nil || got[0].About != "new" || got[1].About != "replaced" || got[1].GiveCA {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestTableErrors(t *testing.T) {
	for name, src := range map[string]string{
		"no proxies":     "proxies: []",
		"no name":        "proxies: [{command: [x]}]",
		"no command":     "proxies: [{name: x}]",
		"a name twice":   "proxies: [{name: x, command: [x]}, {name: x, command: [x]}]",
		"an unknown key": "proxies: [{name: x, command: [x], comand: [y]}]",
	} {
		if _, err := parseTable("t.yaml", []byte(src)); err == nil || !strings.Contains(err.Error(), "t.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	pl := places{dir: "/d", bench: "/b", built: "/h", port: "1", port2: "2", plain: "p:1", tls: "t:1"}
	got := pl.expandAll([]string{"{dir}/{port}", `{"a":"{token}"}`, "{{X}} {plain} {tls}", "{bench} {built} {port2}"})
	want := []string{"/d/1", `{"a":"` + benchToken + `"}`, "{{X}} p:1 t:1", "/b /h 2"}
	if !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}

func TestFilesStayInTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	p := proxySpec{Files: map[string]string{"sub/conf": "at {dir}"}, GiveCA: true}
	if err := p.writeFiles(places{dir: dir}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "sub/conf")); err != nil || string(b) != "at "+dir {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "given-ca.pem")); err != nil ||
		!strings.Contains(string(b), "BEGIN CERTIFICATE") || !strings.Contains(string(b), "BEGIN PRIVATE KEY") {
		t.Errorf("the given authority: %v", err)
	}
	p = proxySpec{Files: map[string]string{"../out": ""}}
	if err := p.writeFiles(places{dir: dir}); err == nil {
		t.Error("a file outside was written")
	}
}
