package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/store"
)

// found is which flows a query without reveal finds.
func found(t *testing.T, s *store.Store, query string) []int64 {
	t.Helper()
	page, err := control.ListShown(t.Context(), s, &control.FlowSearch{Query: query}, "welcome", "secret-gg")
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	ids := []int64{}
	for _, f := range page.Items {
		ids = append(ids, f.ID)
	}
	return ids
}

// TestAQueryFindsNoSecret guesses secrets by conditions: what is found of one is
// what is found of a text that stands nowhere, whatever field is asked, and how.
func TestAQueryFindsNoSecret(t *testing.T) {
	s := kept(t, 3)
	fields := []string{"req.raw", "req.body", "req.path", "req.query", "req.ext", `req.header["cookie"]`, `req.header["authorization"]`, `req.header["x-api-key"]`,
		"req.header.value", "resp.raw", "resp.head", "resp.body", `resp.header["set-cookie"]`, "resp.header.value", "resp.redirect"}
	operators := map[string]string{"cont": "%s", "ncont": "%s", "like": "%%%s%%", "nlike": "%%%s%%", "regex": "(?i)%s", "nregex": "%s"}
	// Of each secret: what somebody would try who has the beginning, and the same
	// with an end that is wrong.
	for _, secret := range []string{"hunter2", "secret-a", "secret-b", "secret-cc", "secret-dd", "secret-ee", "secret-ff", "secret-gg", "secret-hh", "welcome"} {
		for operator, form := range operators {
			ask := func(text string) []int64 {
				var all []string
				for _, field := range fields {
					all = append(all, fmt.Sprintf("%s.%s:%q", field, operator, fmt.Sprintf(form, text)))
				}
				join := " or "
				if operator[0] == 'n' { // one that is true of what is not there
					join = " and "
				}
				return found(t, s, strings.Join(all, join))
			}
			wrong := ask("Q" + secret[1:] + "Q")
			if negative := operator[0] == 'n'; negative && len(wrong) != 3 || !negative && len(wrong) != 0 {
				t.Fatalf("%s of what stands nowhere finds %v", operator, wrong)
			}
			for _, n := range []int{4, len(secret) - 1, len(secret)} {
				if got := ask(secret[:n]); !slices.Equal(got, wrong) {
					t.Fatalf("%s of %q finds %v, of what stands nowhere %v", operator, secret[:n], got, wrong)
				}
			}
		}
		for _, query := range []string{fmt.Sprintf("%q", secret), fmt.Sprintf(`not (resp.raw.ncont:%q)`, secret), fmt.Sprintf(`req.header["cookie"].eq:"sid=%s"`, secret),
			fmt.Sprintf(`req.raw.cont:"sid=%s"`, secret), fmt.Sprintf(`req.query.eq:"csrf_token=%s&page=2"`, secret), fmt.Sprintf(`(resp.code.eq:200 and req.raw.cont:%q) or row.id.eq:0`, secret)} {
			if got := found(t, s, query); len(got) > 0 {
				t.Errorf("%s finds %v", query, got)
			}
		}
	}
	if got := found(t, s, `resp.raw.regex:"sid=[a-s]"`); len(got) > 0 {
		t.Errorf("half of the letters: %v", got)
	}
	// What is shown is found, and lengths are those there are.
	for query, want := range map[string]int{`req.raw.cont:"sid=***"`: 3, `req.path.cont:"login/1"`: 1, `"page 2"`: 3, `resp.head.cont:"OK\r\nSet-Cookie: sid=***; Path=/\r\n"`: 3, `req.body.eq:"{\"user\":\"alice\",\"password\":\"***\"}"`: 3,
		`resp.body.cont:"again and ***"`: 3, `req.header["authorization"].eq:"Bearer ***"`: 3, `req.query.like:"csrf_token=***&page=_"`: 3, `resp.len.gt:100 and resp.code.eq:200`: 3,
		`req.host.eq:"shop.example" and req.method.eq:"POST"`: 3, `flow.identity.eq:"alice"`: 3, `trace.action.eq:"dead"`: 1} {
		if got := found(t, s, query); len(got) != want {
			t.Errorf("%s finds %v, want %d", query, got, want)
		}
	}
	real, err := control.ListFlows(t.Context(), s, &control.FlowSearch{Query: "resp.len.gt:120"})
	if err != nil {
		t.Fatal(err)
	}
	if got := found(t, s, "resp.len.gt:120"); len(got) != len(real.Items) {
		t.Errorf("by the real lengths %d are found, by those shown %d", len(real.Items), len(got))
	}
	if page, err := control.ListFlows(t.Context(), s, &control.FlowSearch{Query: `"secret-hh"`}); err != nil || len(page.Items) != 3 || strings.Contains(fmt.Sprint(page), "secret-b") {
		t.Errorf("who has the project: %+v, %v", page, err)
	}
}
