package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
)

// LocalPages answers requests to the proxy itself: / says what this is, as a
// page or as JSON, with what is passed through since clients refused
// certificates (see [Server.Passed]; nil shows nothing), and /ca.pem is the
// root certificate, unless caPEM is empty. It is a flow.Handler for Config.Local.
func LocalPages(caPEM []byte, passed func() []Passed) flow.Handler {
	return func(_ context.Context, f *flow.Flow) error {
		switch path := f.Request.Path(); {
		case string(path) == "/":
			return welcome(f, len(caPEM) > 0, passed)
		case string(path) == "/ca.pem" && len(caPEM) > 0:
			return Answer(f, 200, "application/x-x509-ca-cert", caPEM)
		}
		return &flow.Error{Status: 400, Reason: flow.ReasonBadRequest,
			Detail: "This is Holdfast, a proxy: the request names no origin, and Holdfast has no such page.",
			Next:   "Set this address as the client's HTTP and HTTPS proxy, and ask for the origin's URL; http://" + LocalHost + "/ says more."}
	}
}

func welcome(f *flow.Flow, withCA bool, passed func() []Passed) error {
	var through []Passed
	if passed != nil {
		through = passed()
	}
	const what = "This is Holdfast, an intercepting proxy."
	if prefersHTML(f.Request) {
		body := page("Holdfast", what, "Set this address as the client's HTTP and HTTPS proxy.")
		if withCA {
			body = append(body, "<p>For HTTPS have the client trust the <a href=\"/ca.pem\">root certificate</a>.</p>\n"...)
		}
		if len(through) > 0 {
			body = append(body, "<h2>Not looked into</h2>\n<p>These clients refused the certificate for these hosts, whose connections are passed through to them until a restart.</p>\n<ul>\n"...)
			for _, p := range through {
				body = fmt.Appendf(body, "<li>%s for %s, since %s, %d connections</li>\n", html.EscapeString(p.Host), html.EscapeString(p.Client), p.Since.UTC().Format(time.DateTime), p.Count)
			}
			body = append(body, "</ul>\n"...)
		}
		return Answer(f, 200, "text/html; charset=utf-8", body)
	}
	about := struct {
		Name   string   `json:"name"`
		What   string   `json:"what"`
		CA     string   `json:"ca,omitempty"`
		Passed []Passed `json:"passed_through,omitempty"`
	}{Name: "holdfast", What: what, Passed: through}
	if withCA {
		about.CA = "http://" + LocalHost + "/ca.pem"
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(about); err != nil {
		return err
	}
	return Answer(f, 200, "application/json", body.Bytes())
}
