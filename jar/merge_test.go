package jar_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/jar"
)

func TestMerge(t *testing.T) {
	wins, client, strip := jar.Policy{}, jar.Policy{Mode: jar.ClientWins}, jar.Policy{Mode: jar.Strip}
	for _, c := range []struct {
		name, line, have string
		policy           jar.Policy
		want, edits      string
	}{
		{"nothing to do", "a=1;  b=2;", "", wins, "a=1;  b=2;", "[]"},
		{"equal values", " a = 1 ;b=2", "a=1", wins, " a = 1 ;b=2", "[]"},
		{"no line", "", "a=1; b=2", wins, "a=1; b=2", "[add cookie a add cookie b]"},
		{"jar wins", "x=0;a=1;  b = 2;y", "a=9; b=8", wins, "x=0;a=9;  b = 8;y", "[set cookie a set cookie b]"},
		{"jar wins and adds", "a=1", "a=9; b=8", wins, "a=9; b=8", "[set cookie a add cookie b]"},
		{"client wins", "a=1", "a=9; b=8", client, "a=1; b=8", "[add cookie b]"},
		{"client wins with an empty value", "a=", "a=9", client, "a=", "[]"},
		{"strip", "a=1; x=2", "a=9; b=8", strip, "a=9; b=8", "[remove cookie a remove cookie x add cookie a add cookie b]"},
		{"strip without a jar", "a=1; x=2;", "", strip, "", "[remove cookie a remove cookie x]"},
		{"quotes are bytes", `a="1 2"`, "a=9", wins, "a=9", "[set cookie a]"},
		{"no name", "tok; a=1", "new", wins, "new; a=1", "[set cookie ]"},
		{"names have a case", "A=1", "a=9", wins, "A=1; a=9", "[add cookie a]"},
		{"a longer name is another", "aa=1; xa=2", "a=9", wins, "aa=1; xa=2; a=9", "[add cookie a]"},

		{"two of a name", "a=1; b=2; a=3", "a=8; a=9", wins, "a=8; b=2; a=9", "[set cookie a set cookie a]"},
		{"places left over", "a=1; b=2; a=3", "a=8", wins, "a=8; b=2", "[set cookie a remove cookie a]"},
		{"places left over behind an equal value", "a=8; b=2; a=3", "a=8", wins, "a=8; b=2", "[remove cookie a]"},
		{"cookies left over", "a=1; b=2", "a=8; a=9", wins, "a=8; b=2; a=9", "[set cookie a add cookie a]"},
		{"two of the jar, client wins", "b=2", "a=8; a=9", client, "b=2; a=8; a=9", "[add cookie a add cookie a]"},

		{"all except", "a=1; b=2", "a=9; b=8; c=7", jar.Policy{Except: []string{"a"}}, "a=1; b=8; c=7", "[set cookie b add cookie c]"},
		{"only", "a=1; b=2", "a=9; b=8; c=7", jar.Policy{Only: []string{"a"}}, "a=9; b=2", "[set cookie a]"},
		{"strip only", "a=1; b=2; c=3", "", jar.Policy{Mode: jar.Strip, Only: []string{"b"}}, "a=1; c=3", "[remove cookie b]"},
		{"strip the first", "a=1;  b=2", "", jar.Policy{Mode: jar.Strip, Only: []string{"a"}}, "b=2", "[remove cookie a]"},
		{"except is not added either", "", "a=9", jar.Policy{Except: []string{"a"}}, "", "[]"},

		{"add after a semicolon", "x=1;", "a=9", wins, "x=1; a=9", "[add cookie a]"},
		{"add after a semicolon and space", "x=1; ", "a=9", wins, "x=1; a=9", "[add cookie a]"},
		{"add after space", "x=1 ", "a=9", wins, "x=1 ; a=9", "[add cookie a]"},
		{"add to space alone", " ", "a=9", wins, "a=9", "[add cookie a]"},
		{"add to a semicolon alone", ";", "a=9", wins, "; a=9", "[add cookie a]"},
	} {
		got, edits := jar.Merge(c.line, jar.Pairs(c.have), c.policy)
		if got != c.want || fmt.Sprint(edits) != c.edits {
			t.Errorf("%s: %q with %q: got %q %v, want %q %s", c.name, c.line, c.have, got, edits, c.want, c.edits)
		}
	}
}

func TestMergeTellsOldAndNew(t *testing.T) {
	_, edits := jar.Merge("a=1; b=2", jar.Pairs("a=9; c=7"), jar.Policy{})
	want := []jar.Edit{{Op: jar.OpSet, Name: "a", Old: "1", New: "9"}, {Op: jar.OpAdd, Name: "c", New: "7"}}
	if len(edits) != 2 || edits[0] != want[0] || edits[1] != want[1] {
		t.Errorf("got %#v, want %#v", edits, want)
	}
}

// Merge touches no byte of a cookie that the policy does not name, and what it
// names is afterwards as the mode promises.
func FuzzMerge(f *testing.F) {
	f.Add("x=1; a=2;  b = \"3\" ;", "a=9; a=8; c=1", "a,c", uint8(0))
	f.Add(";; a;b=;=c", "b=1; d", "b", uint8(2))
	f.Add(" ", "a=1", "", uint8(1))
	f.Add("a=1; a=2; a=3", "a=4", "", uint8(0))
	f.Fuzz(func(t *testing.T, line, have, names string, mode uint8) {
		if strings.ContainsAny(names, "; \t=") {
			return
		}
		p := jar.Policy{Mode: []jar.Mode{jar.JarWins, jar.ClientWins, jar.Strip}[mode%3]}
		if names != "" {
			p.Only = strings.Split(names, ",")
		}
		cookies := jar.Pairs(have)
		for _, c := range cookies {
			// The one cannot be in a jar, the other is sent as a=b: RFC 6265bis
			// (§5.8.3) has no way to say that such a cookie has no name.
			if c.Name == "" && (c.Value == "" || strings.Contains(c.Value, "=")) {
				return
			}
		}
		got, edits := jar.Merge(line, cookies, p)
		if len(edits) == 0 && got != line {
			t.Fatalf("%q became %q without an edit", line, got)
		}
		named := func(name string) bool {
			if p.Only == nil {
				return true
			}
			for _, n := range p.Only {
				if n == name {
					return true
				}
			}
			return false
		}
		if was, is := foreign(line, named), foreign(got, named); was != is {
			t.Fatalf("merge of %q into %q with %v: others were %q, are %q", have, line, p, was, is)
		}
		for _, e := range edits {
			if !named(e.Name) {
				t.Fatalf("edit of %q, which is not named", e.Name)
			}
		}
		if p.Mode == jar.ClientWins {
			if len(got) < len(line) && strings.Trim(line, " \t") != "" || strings.Trim(line, " \t") != "" && !strings.HasPrefix(got, line) {
				t.Fatalf("client wins: %q became %q", line, got)
			}
			return
		}
		// What the jar has of a name is what the line has of it now.
		for _, c := range cookies {
			if named(c.Name) {
				if was, is := values(cookies, c.Name), values(jar.Pairs(got), c.Name); was != is {
					t.Fatalf("%q in %q: got %s, want %s", c.Name, got, is, was)
				}
			}
		}
	})
}

// foreign lists the exact bytes of the pairs that are not named.
func foreign(line string, named func(string) bool) string {
	var out []string
	for piece := range strings.SplitSeq(line, ";") {
		name, _, ok := strings.Cut(piece, "=")
		if name = strings.Trim(name, " \t"); !ok {
			name = ""
		}
		if piece = strings.Trim(piece, " \t"); piece != "" && !named(name) {
			out = append(out, piece)
		}
	}
	return strings.Join(out, "\n")
}

func values(cookies []jar.Cookie, name string) string {
	var out []string
	for _, c := range cookies {
		if c.Name == name {
			out = append(out, c.Value)
		}
	}
	return fmt.Sprintf("%q", out)
}
