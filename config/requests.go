package config

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// request compiles the raw HTTP of a step.
func (d *decoder) request(s stepDraft) *macro.RequestTemplate {
	t, err := macro.ParseRequest(s.request.s, s.tls)
	if err != nil {
		d.requestError(err, s.request)
		return nil
	}
	return t
}

// lineOfRequest is how package macro says where a request is wrong. It may go
// on with words of the request, which may hold a secret.
var lineOfRequest = regexp.MustCompile(`(?s)^line (\d+) of the request: (?:".*"|)`)

// requestError puts a mistake in a request at its line.
func (d *decoder) requestError(err error, request word) {
	var e *rule.Error
	if !errors.As(err, &e) {
		d.errorAt(request.n, "write it as it goes over the wire: request line, headers, an empty line, the body", "the request cannot be read")
		return
	}
	m := lineOfRequest.FindStringSubmatch(e.Problem)
	if m == nil {
		d.errorIn(request.n, offsetIn(request.s, e.Problem), e.Next, "%s", e.Problem)
		return
	}
	offset, rest := 0, request.s
	number, _ := strconv.Atoi(m[1])
	for range number - 1 {
		line, after, _ := strings.Cut(rest, "\n")
		offset += len(line) + 1
		rest = after
	}
	what := strings.TrimSpace(e.Problem[len(m[0]):])
	if !strings.HasPrefix(what, "this ") {
		what = "this " + what
	}
	d.errorIn(request.n, offset, e.Next, "%s", what)
}

// placeholder stands for the value of a token in a request that is built to
// see whether it can be.
const placeholder = "token"

// tryBuild builds the request for each identity, to find now what could never
// be sent. Where the head needs a token nothing can be said before there is
// one.
func (d *decoder) tryBuild(s stepDraft, t *macro.RequestTemplate, names *names) {
	head, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimLeft(s.request.s, "\r\n"), "\r\n", "\n"), "\n\n")
	template, err := rule.ParseTemplate(head)
	if err != nil {
		return
	}
	for _, name := range template.Names() {
		if !names.isVariable(name) {
			return
		}
	}
	identities := names.identities
	if len(identities) == 0 {
		identities = []identityDraft{{}}
	}
	for _, i := range identities {
		_, err := t.Build(func(name string) (string, bool) { return names.valueFor(i, name) })
		var e *macro.BuildError
		if !errors.As(err, &e) || e.Problem == "" {
			continue
		}
		who := ""
		if i.name != "" {
			who = " for identity " + i.name
		}
		d.errorAt(s.request.n, e.Next, "the request cannot be built%s: %s", who, e.Problem)
		return
	}
}
