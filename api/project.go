package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/control/params"
)

// route is an operation as it is asked for by HTTP.
type route struct {
	op       control.Operation
	registry huma.Registry
	params   *params.Set
	body     bool // those that stand in no path are a JSON object
}

// inPath says whether a parameter stands in the path.
func (r *route) inPath(name string) bool { return strings.Contains(r.op.Path, "{"+name+"}") }

// project makes the routes and the document of the table.
func project(table []control.Operation) (*huma.OpenAPI, []route, error) {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	doc := newDocument(registry)
	var routes []route
	for _, op := range table {
		if op.Method == control.Nowhere {
			continue
		}
		r := route{op: op, registry: registry, body: op.Method == http.MethodPost || op.Method == http.MethodPut}
		var err error
		if r.params, err = params.Of(&op, registry); err != nil {
			return nil, nil, err
		}
		r.document(doc)
		routes = append(routes, r)
	}
	return doc, routes, nil
}

// schemaName names a type in the document: those of other packages with the
// package in front.
func schemaName(t reflect.Type, hint string) string {
	if t == reflect.TypeFor[control.Session]() {
		return "Session" // which is another package's Status
	}
	if t == reflect.TypeFor[control.Page[control.Session]]() {
		return "PageSession"
	}
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch from := path.Base(t.PkgPath()); from {
	case ".", "control", "api":
		return name
	default:
		return strings.ToUpper(from[:1]) + from[1:] + name
	}
}

// serve answers one request.
func (r *route) serve(w http.ResponseWriter, req *http.Request, desk *control.Desk) {
	defer func() {
		if bug := recover(); bug != nil {
			if bug == http.ErrAbortHandler {
				panic(bug)
			}
			desk.Events().Warn(fmt.Sprintf("internal error in %s: %v\n%s", r.op.Name, bug, debug.Stack()))
			newProblem(500, control.ReasonInternal, "Internal error.", "Report it, with what was asked for.").write(w)
		}
	}()
	params, problem := r.read(req)
	if problem != nil {
		problem.write(w)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), callTimeout)
	defer cancel()
	result, err := r.op.Call(ctx, desk, params)
	if err != nil {
		problemOf(err).write(w)
		return
	}
	raw, err := json.Marshal(result)
	if err != nil {
		newProblem(500, control.ReasonInternal, "The result is no JSON.", "Report it, with what was asked for.").write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.op.Runs {
		w.WriteHeader(http.StatusAccepted)
	}
	w.Write(append(raw, '\n'))
}

// read makes the operation's parameters of a request.
func (r *route) read(req *http.Request) (any, *Problem) {
	values := map[string]any{}
	if r.body {
		if p := readBody(req, values); p != nil {
			return nil, p
		}
		if req.URL.RawQuery != "" {
			return nil, faulty(Fault{"query", "parameters of this operation stand in a JSON body"})
		}
	}
	given, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return nil, faulty(Fault{"query", "is no query: " + err.Error()})
	}
	for i := range r.params.Fields {
		f := &r.params.Fields[i]
		texts := given[f.Name]
		if r.inPath(f.Name) {
			if len(texts) > 0 || values[f.Name] != nil {
				return nil, faulty(Fault{f.Name, "stands in the path"})
			}
			texts = []string{req.PathValue(f.Name)}
		}
		delete(given, f.Name)
		switch {
		case len(texts) == 0:
			continue
		case len(texts) > 1:
			return nil, faulty(Fault{f.Name, "is given more than once"})
		}
		value, fault := parse(f.Kind, texts[0])
		if fault != "" {
			return nil, faulty(Fault{f.Name, fault})
		}
		values[f.Name] = value
	}
	for name := range given {
		return nil, faulty(Fault{params.Clip(name), "is no parameter of this operation"})
	}
	decoded, faults := r.params.Decode(values)
	if len(faults) > 0 {
		own := make([]Fault, len(faults))
		for i, f := range faults {
			own[i] = Fault(f)
		}
		return nil, faulty(own...)
	}
	return decoded, nil
}

// maxFaults bounds what a problem lists.
const maxFaults = 20

func faulty(faults ...Fault) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, control.ReasonParameter, "A parameter cannot be understood.", "See errors, and "+prefix+"/openapi.json for what the operation takes.")
	p.Errors = faults[:min(len(faults), maxFaults)]
	return p
}

// parse reads a parameter of a path or a query.
func parse(kind reflect.Kind, text string) (value any, fault string) {
	switch kind {
	case reflect.String:
		return text, ""
	case reflect.Bool:
		switch text {
		case "true", "1":
			return true, ""
		case "false", "0":
			return false, ""
		}
		return nil, "is neither true nor false"
	case reflect.Int, reflect.Uint64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/1024 {
			return nil, "is no number"
		}
		return float64(n), ""
	}
	return nil, "cannot stand in a query"
}

// readBody reads a JSON object.
func readBody(req *http.Request, into map[string]any) *Problem {
	raw, err := io.ReadAll(req.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return newProblem(http.StatusRequestEntityTooLarge, CodeTooLarge, fmt.Sprintf("The body has more than %d bytes.", large.Limit), "Send less.")
	case err != nil:
		return newProblem(http.StatusBadRequest, control.ReasonParameter, "The body broke off.", "Send it again.")
	case len(raw) == 0:
		return nil
	}
	media, fields, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if charset := fields["charset"]; err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return newProblem(http.StatusUnsupportedMediaType, CodeMedia, "The body is not said to be JSON.", "Send Content-Type: application/json.")
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return faulty(Fault{"body", "is no JSON object: " + params.Clip(err.Error())})
	}
	if object == nil {
		return faulty(Fault{"body", "is no JSON object"})
	}
	for name, value := range object {
		into[name] = value
	}
	return nil
}

// newDocument is an OpenAPI document without operations.
func newDocument(registry huma.Registry) *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "Holdfast", Version: "1",
			Description: "What can be done to a running Holdfast. Every request wants the token of the file api-token in its home directory. Besides these paths, GET /api/v1/events is a stream of events (text/event-stream)."},
		Servers:    []*huma.Server{{URL: prefix}},
		Paths:      map[string]*huma.PathItem{},
		Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}},
		Security:   []map[string][]string{{"token": {}}},
	}
}

// document writes the operation into the document.
func (r *route) document(doc *huma.OpenAPI) {
	op := &huma.Operation{OperationID: r.op.Name, Summary: r.op.Doc, Tags: []string{strings.Split(r.op.Name, ".")[0]}, Responses: map[string]*huma.Response{},
		Extensions: map[string]any{"x-holdfast-danger": string(r.op.Danger), "x-holdfast-reveals": r.op.Reveals}}
	body := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for _, f := range r.params.Fields {
		inPath := r.inPath(f.Name)
		if r.body && !inPath {
			body.Properties[f.Name] = f.Schema
			if f.Needed {
				body.Required = append(body.Required, f.Name)
			}
			continue
		}
		in := map[bool]string{true: "path", false: "query"}[inPath]
		schema := *f.Schema
		schema.Description = ""
		op.Parameters = append(op.Parameters, &huma.Param{Name: f.Name, In: in, Required: f.Needed, Description: f.Schema.Description, Schema: &schema})
	}
	if len(body.Properties) > 0 {
		op.RequestBody = &huma.RequestBody{Required: len(body.Required) > 0, Content: map[string]*huma.MediaType{"application/json": {Schema: body}}}
	}
	status := "200"
	if r.op.Runs {
		status = "202"
	}
	result := r.registry.Schema(r.op.Result, true, "")
	op.Responses[status] = &huma.Response{Description: "Done.", Content: map[string]*huma.MediaType{"application/json": {Schema: result}}}
	if r.op.Runs {
		op.Responses[status].Description = "Begun; ask for the run, or listen to events, to hear of its end."
	}
	problem := r.registry.Schema(reflect.TypeFor[Problem](), true, "")
	op.Responses["default"] = &huma.Response{Description: "It cannot be done; code says why.", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: problem}}}
	item := doc.Paths[r.op.Path]
	if item == nil {
		item = &huma.PathItem{}
		doc.Paths[r.op.Path] = item
	}
	switch r.op.Method {
	case http.MethodGet:
		item.Get = op
	case http.MethodPost:
		item.Post = op
	case http.MethodPut:
		item.Put = op
	case http.MethodDelete:
		item.Delete = op
	}
}
