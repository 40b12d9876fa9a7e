package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

//go:embed proxies.yaml
var builtinTable []byte

// direct is the name of the row without a proxy.
const direct = "direct"

// A proxySpec is one entry of the table of proxies; README.md explains the
// keys. Texts may contain placeholders: see [places.expand].
type proxySpec struct {
	Name    string            `yaml:"name"`
	About   string            `yaml:"about"`
	Build   string            `yaml:"build"`   // a Go package, built once into {built}
	Files   map[string]string `yaml:"files"`   // written into {dir} before the start
	Prepare []string          `yaml:"prepare"` // a command run to its end before the start
	Command []string          `yaml:"command"`
	Env     []string          `yaml:"env"`     // NAME=value, beside the harness's own
	CA      string            `yaml:"ca"`      // file with the CA's certificate; "" is not verified
	GiveCA  bool              `yaml:"give_ca"` // write {dir}/given-ca.pem: certificate and key
	Splices bool              `yaml:"splices"` // shows the origin's own certificate
	Injects bool              `yaml:"injects"` // must put the bench token into each request
	Works   []string          `yaml:"works"`   // only these
	Without []string          `yaml:"without"` // not these
	Default bool              `yaml:"default"` // runs when --proxies is not given
}

type proxyTable struct {
	Proxies []proxySpec `yaml:"proxies"`
}

// loadTable reads the built-in table, then the file, whose entries replace
// those of the same name or are added.
func loadTable(file string) ([]proxySpec, error) {
	table, err := parseTable("proxies.yaml", builtinTable)
	if err != nil || file == "" {
		return table, err
	}
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	more, err := parseTable(file, src)
	if err != nil {
		return nil, err
	}
next:
	for _, m := range more {
		for i := range table {
			if table[i].Name == m.Name {
				table[i] = m
				continue next
			}
		}
		table = append(table, m)
	}
	return table, nil
}

func parseTable(name string, src []byte) ([]proxySpec, error) {
	var t proxyTable
	if err := yaml.Load(src, &t, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(t.Proxies) == 0 {
		return nil, fmt.Errorf("%s: no proxies in it", name)
	}
	seen := map[string]bool{}
	for i, p := range t.Proxies {
		switch {
		case p.Name == "":
			return nil, fmt.Errorf("%s: proxy %d has no name", name, i+1)
		case seen[p.Name]:
			return nil, fmt.Errorf("%s: two proxies are called %q", name, p.Name)
		case p.Name != direct && len(p.Command) == 0:
			return nil, fmt.Errorf("%s: %s has no command", name, p.Name)
		}
		seen[p.Name] = true
	}
	return t.Proxies, nil
}

// choose picks entries by name, in the order given; no names: the defaults.
func choose(table []proxySpec, names []string) ([]proxySpec, error) {
	var chosen []proxySpec
	if len(names) == 0 {
		for _, p := range table {
			if p.Default {
				chosen = append(chosen, p)
			}
		}
		return chosen, nil
	}
	var known []string
	for _, p := range table {
		known = append(known, p.Name)
	}
next:
	for _, n := range names {
		for _, p := range table {
			if p.Name == n {
				chosen = append(chosen, p)
				continue next
			}
		}
		return nil, fmt.Errorf("no proxy called %q: the table has %s", n, strings.Join(known, ", "))
	}
	return chosen, nil
}

// does says whether a proxy takes part in a work.
func (p *proxySpec) does(w work) bool {
	if p.Name == direct && w.tunnels > 0 {
		return false
	}
	for _, n := range p.Without {
		if n == w.name {
			return false
		}
	}
	if len(p.Works) == 0 {
		return true
	}
	for _, n := range p.Works {
		if n == w.name {
			return true
		}
	}
	return false
}

// places are the values of the placeholders.
type places struct {
	dir, bench, built string
	port, port2       string
	plain, tls        string // the origin's host:port
}

// expand replaces {dir} (a directory for this run of this proxy), {bench}
// (this program), {built} (what build made), {port} (to listen on), {port2}
// (a second free one), {plain} and {tls} (the origin), {token} (benchToken).
// Other braces stay.
func (p places) expand(s string) string {
	return strings.NewReplacer(
		"{dir}", p.dir, "{bench}", p.bench, "{built}", p.built,
		"{port}", p.port, "{port2}", p.port2,
		"{plain}", p.plain, "{tls}", p.tls, "{token}", benchToken,
	).Replace(s)
}

func (p places) expandAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = p.expand(s)
	}
	return out
}

// writeFiles puts the files of an entry into its directory.
func (p *proxySpec) writeFiles(pl places) error {
	for name, content := range p.Files {
		if !filepath.IsLocal(name) {
			return errors.New("file name leaves the directory: " + name)
		}
		path := filepath.Join(pl.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(pl.expand(content)), 0o600); err != nil {
			return err
		}
	}
	if !p.GiveCA {
		return nil
	}
	auth, err := newAuthority("bench given authority")
	if err != nil {
		return err
	}
	key, err := auth.keyPEM()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(pl.dir, "given-ca.pem"), append(auth.pem(), key...), 0o600)
}
