package rule_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/rule"
)

func TestCloseCodes(t *testing.T) {
	base := func(codes ...int) []rule.Rule {
		return []rule.Rule{{Name: "a", Enabled: true, Scope: rule.Scope{Pattern: "a.example"}, DeadCloseCodes: codes}}
	}
	if _, err := rule.Compile(base(1000, 1008, 3000, 4401, 4999), rule.Globals{}); err != nil {
		t.Errorf("codes that stand in close frames: %v", err)
	}
	if _, err := rule.Compile(base(), rule.Globals{}); err == nil {
		t.Error("a rule that judges nothing and has no tokens was taken")
	}
	for _, code := range []int{-1, 0, 999, 1005, 1006, 1015, 5000, 65535} {
		_, err := rule.Compile(base(1008, code), rule.Globals{})
		errs, ok := err.(rule.Errors)
		if !ok || len(errs) != 1 || errs[0].Key != "validation.close_codes[1]" || errs[0].Next == "" {
			t.Errorf("code %d, which never stands in a close frame: %v", code, err)
		}
	}
}
