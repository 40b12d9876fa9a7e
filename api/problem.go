package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/flow"
)

// Problem is what an error looks like: RFC 9457, with a code.
type Problem struct {
	Type   string  `json:"type" doc:"urn:holdfast: and the code."`
	Title  string  `json:"title" doc:"Of the status."`
	Status int     `json:"status"`
	Code   string  `json:"code" doc:"Stable, for programs."`
	Detail string  `json:"detail" doc:"What happened, without secrets."`
	Next   string  `json:"next,omitempty" doc:"What a person can do about it."`
	Errors []Fault `json:"errors,omitempty" doc:"What is wrong with which parameter."`

	retryAfter time.Duration // 0: not said
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	Where string `json:"where" doc:"The parameter."`
	What  string `json:"what"`
}

// Codes of problems, besides the reasons of packages control and flow.
const (
	CodeHost      = "host_refused"       // Host names something else
	CodeOrigin    = "origin_refused"     // a page of another origin asks
	CodeToken     = "token_missing"      // no token, or not the one
	CodeTooMany   = "token_attempts"     // too many wrong tokens
	CodePath      = "path_unknown"       // there is no such path
	CodeMethod    = "method_unknown"     // the path is not for this method
	CodeMedia     = "media_type"         // the body is not said to be JSON
	CodeTooLarge  = "body_too_large"     // the body is larger than may be
	CodeListeners = "listeners_too_many" // as many listen to events as may
)

// problemOf is an error as callers are told it.
func problemOf(err error) *Problem {
	var known *flow.Error
	switch {
	case errors.As(err, &known):
		return newProblem(known.Code(), known.Reason, known.Detail, known.Next)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return newProblem(504, flow.ReasonTimeout, "It was not done in time.", "Ask again; what was begun may go on.")
	}
	return newProblem(500, control.ReasonInternal, "Internal error.", "Report it, with what was asked for.")
}

func newProblem(status int, code, detail, next string) *Problem {
	return &Problem{Type: "urn:holdfast:" + code, Title: http.StatusText(status), Status: status, Code: code, Detail: sentence(detail), Next: sentence(next)}
}

// sentence is a text with a capital letter and a full stop.
func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") || strings.Contains(text, ": ") {
		return text
	}
	return text + "."
}

func (p *Problem) write(w http.ResponseWriter) {
	raw, err := json.Marshal(p)
	if err != nil { // only texts: cannot fail
		raw = []byte(`{"status":500}`)
	}
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.retryAfter.Seconds())+1))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	w.Write(append(raw, '\n'))
}
