package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/control"
)

// TestDocument holds the document against what stands in the repository, and
// against itself.
func TestDocument(t *testing.T) {
	raw, err := api.Document()
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	const golden = "testdata/openapi.json"
	if *update {
		if err := os.WriteFile(golden, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(want, raw) {
		t.Errorf("the document is not that of %s (%v); if a type of an answer was changed on purpose: go test ./api -run TestDocument -update", golden, err)
	}
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]operation
		Components struct {
			Schemas map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("it is of OpenAPI %q", doc.OpenAPI)
	}
	for _, m := range regexp.MustCompile(`"\$ref": "([^"]*)"`).FindAllStringSubmatch(string(raw), -1) {
		if name, ok := strings.CutPrefix(m[1], "#/components/schemas/"); !ok || doc.Components.Schemas[name] == nil {
			t.Errorf("%s leads nowhere", m[1])
		}
	}
	seen := map[string]bool{}
	for path, item := range doc.Paths {
		for method, o := range item {
			o.check(t, path, method)
			if seen[o.OperationID] {
				t.Errorf("%s is there twice", o.OperationID)
			}
			seen[o.OperationID] = true
		}
	}
	for _, o := range control.Operations() {
		if o.Method != control.Nowhere && !seen[o.Name] {
			t.Errorf("the document lacks %s", o.Name)
		}
	}
}

type operation struct {
	OperationID string
	Parameters  []struct {
		Name, In string
		Required bool
		Schema   json.RawMessage
	}
	RequestBody *struct {
		Content map[string]struct{ Schema json.RawMessage }
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema json.RawMessage }
	}
}

func (o *operation) check(t *testing.T, path, method string) {
	t.Helper()
	at := fmt.Sprintf("%s %s", method, path)
	declared := map[string]bool{}
	for _, p := range o.Parameters {
		if p.In != "path" && p.In != "query" || p.Schema == nil || declared[p.Name] || p.In == "path" && !p.Required {
			t.Errorf("%s: parameter %s in %s is not as OpenAPI wants it", at, p.Name, p.In)
		}
		declared[p.Name] = true
		if (p.In == "path") != strings.Contains(path, "{"+p.Name+"}") {
			t.Errorf("%s: parameter %s is not where it says", at, p.Name)
		}
	}
	for _, m := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(path, -1) {
		if !declared[m[1]] {
			t.Errorf("%s: the document has no parameter %s", at, m[1])
		}
	}
	if o.RequestBody != nil && (method == "get" || method == "delete") {
		t.Errorf("%s has a body", at)
	}
	if len(o.Responses) < 2 {
		t.Errorf("%s has %d answers; want one, and problems", at, len(o.Responses))
	}
	for status, r := range o.Responses {
		if r.Description == "" || len(r.Content) == 0 {
			t.Errorf("%s: answer %s is not described", at, status)
		}
	}
}
