package rule_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/rule"
)

func TestCovers(t *testing.T) {
	tests := map[string]struct {
		scope rule.Scope
		host  string
		want  bool
	}{
		"the host itself":              {rule.Scope{Pattern: "shop.example"}, "SHOP.example.", true},
		"below it":                     {rule.Scope{Pattern: "*.shop.example"}, "api.shop.example", true},
		"another":                      {rule.Scope{Pattern: "*.shop.example"}, "bank.example", false},
		"by URL, whatever the path":    {rule.Scope{Pattern: "https://shop.example:8443/api/", Target: "url"}, "shop.example", true},
		"for another tool":             {rule.Scope{Pattern: "shop.example", Tools: []string{"ffuf"}}, "shop.example", true},
		"everything":                   {rule.Scope{Pattern: "*"}, "bank.example", true},
		"a regex on the host":          {rule.Scope{Pattern: `^https?://[a-z]+\.shop\.example`, Target: "regex"}, "api.shop.example", true},
		"a regex on the host and path": {rule.Scope{Pattern: `https://shop\.example/api/\d+`, Target: "regex"}, "shop.example", true},
		"a regex on another":           {rule.Scope{Pattern: `https://shop\.example/api/\d+`, Target: "regex"}, "bank.example", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set, err := rule.Compile([]rule.Rule{{Name: "a", Enabled: true, Scope: tt.scope, DeadCloseCodes: []int{4401}}}, rule.Globals{})
			if err != nil {
				t.Fatal(err)
			}
			if got := set.Covers(tt.host); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
