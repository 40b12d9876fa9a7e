package config

import (
	"errors"
	"regexp/syntax"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

// ruleError reports what package rule refused. below is the node that was
// given to it: the error's key leads from there to the place.
func (d *decoder) ruleError(err error, below *yaml.Node) {
	var many rule.Errors
	if errors.As(err, &many) {
		for _, one := range many {
			d.ruleError(one, below)
		}
		return
	}
	var e *rule.Error
	if !errors.As(err, &e) {
		d.errorAt(below, "docs/configuration.md describes the format", "%s", err)
		return
	}
	n := nodeAt(below, e.Key)
	offset := 0
	if n.Kind == yaml.ScalarNode {
		offset = offsetIn(n.Value, e.Problem)
	}
	d.errorIn(n, offset, e.Next, "%s", e.Problem)
}

// nodeAt follows a key such as token_updates[0].source.regex as far as it
// leads.
func nodeAt(n *yaml.Node, key string) *yaml.Node {
	for _, part := range strings.FieldsFunc(key, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next := child(resolve(n), part)
		if next == nil {
			break
		}
		n = next
	}
	return resolve(n)
}

func child(n *yaml.Node, part string) *yaml.Node {
	switch n.Kind {
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if key == part || part == "name" && (key == "header_name" || key == "cookie_name" || key == "param_name") {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

// offsetIn is where in a scalar the problem lies: at the {{…}} that it begins
// with, or where the syntax of a regex breaks. 0 when neither can be found.
func offsetIn(s, problem string) int {
	if end := strings.Index(problem, "}}"); strings.HasPrefix(problem, "{{") && end > 0 {
		return max(strings.Index(s, problem[:end+2]), 0)
	}
	_, err := syntax.Parse(s, syntax.Perl)
	var e *syntax.Error
	if !strings.Contains(problem, "regex") || !errors.As(err, &e) {
		return 0
	}
	return max(strings.Index(s, e.Expr), 0)
}
