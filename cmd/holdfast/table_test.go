package main

import (
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/control"
)

// TestTableHasCommands holds the table of operations against the commands that
// there are.
func TestTableHasCommands(t *testing.T) {
	root := rootCommand()
	for _, o := range control.Operations() {
		if o.Command == control.Nowhere {
			continue
		}
		cmd, rest, err := root.Find(strings.Fields(o.Command))
		if err != nil || len(rest) > 0 || cmd.RunE == nil {
			t.Errorf("%s: there is no command %q (%v)", o.Name, o.Command, err)
		}
		if err == nil && cmd.Example == "" {
			t.Errorf("%s: the help of %q has no example", o.Name, o.Command)
		}
	}
}
