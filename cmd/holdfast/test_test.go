package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestExampleOfTests runs the example that the manual leads to.
func TestExampleOfTests(t *testing.T) {
	t.Setenv("SHOP_PASS", "none")
	var out, said bytes.Buffer
	code := execute(t.Context(), []string{"test", "../../docs/examples/tests/cookie-form.yaml"}, terminal{strings.NewReader(""), &out, &said})
	if code != 0 || !strings.Contains(out.String(), "5 passed, 0 failed") {
		t.Errorf("exit code %d\n%s%s", code, &out, &said)
	}
}
