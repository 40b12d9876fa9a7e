package httpql_test

import (
	"os"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql/httpqltest"
)

func TestScripts(t *testing.T) {
	httpqltest.Run(t, os.DirFS("testdata"), false, httpqltest.Memory)
}

// TestScriptsAsStored is what an evaluator on a database has to pass.
func TestScriptsAsStored(t *testing.T) {
	httpqltest.Run(t, os.DirFS("testdata"), true, httpqltest.Memory)
}
