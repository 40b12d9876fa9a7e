package control_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/holdfast-proxy/holdfast/control"
)

var update = flag.Bool("update", false, "rewrite what the tests compare with")

// TestTable shows what there is on which face. A blank is a mistake: a face that
// an operation is not on is written down as such.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OPERATION\tDANGER\tREST\tMCP\tCOMMAND LINE\tSECRETS\tPARAMETERS")
	names, routes, tools, commands := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	once := func(seen map[string]bool, what string) {
		if what != control.Nowhere && seen[what] {
			t.Errorf("%q is there twice", what)
		}
		seen[what] = true
	}
	for _, o := range control.Operations() {
		for _, cell := range []string{o.Name, o.Doc, string(o.Danger), o.Method, o.Path, o.Tool, o.Command} {
			if cell == "" {
				t.Errorf("%s has a blank: %+v", o.Name, o)
			}
		}
		if !strings.HasSuffix(o.Doc, ".") && !strings.HasSuffix(o.Doc, ")") {
			t.Errorf("%s: the text is no sentence", o.Name)
		}
		once(names, o.Name)
		once(routes, o.Method+" "+o.Path)
		for _, a := range o.Actions() {
			if once(tools, a.Tool+"."+a.Name); a.Tool == "" || a.Name == "" {
				t.Errorf("%s: MCP has %q; want tool.action", o.Name, o.Tool)
			}
		}
		once(commands, o.Command)
		var params []string
		for _, f := range reflect.VisibleFields(o.Params) {
			if !f.Anonymous {
				params = append(params, f.Tag.Get("json"))
			}
		}
		shown := strings.ReplaceAll(strings.ReplaceAll(strings.Join(params, " "), ",omitempty", "?"), ",omitzero", "?")
		if shown == "" {
			shown = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s %s\t%s\t%s\t%s\t%s\n", o.Name, o.Danger, o.Method, o.Path, o.Tool, o.Command, map[bool]string{true: "may", false: "none"}[o.Reveals], shown)
	}
	w.Flush()
	const golden = "testdata/table.txt"
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("the table is not that of %s (%v); if that is meant, run the test with -update:\n%s", golden, err, b.String())
	}
}
