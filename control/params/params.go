package params

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-proxy/holdfast/control"
)

// Set are the parameters of one operation. Any goroutine may use it.
type Set struct {
	Fields []Field
	Schema *huma.Schema // of all together: an object

	registry huma.Registry
	kind     reflect.Type
}

// Field is one parameter.
type Field struct {
	Name   string
	Kind   reflect.Kind
	Schema *huma.Schema
	Needed bool
}

// Fault is one thing that is wrong with what a caller gave.
type Fault struct {
	Where string `json:"where" doc:"The parameter."`
	What  string `json:"what"`
}

// Of describes the parameters of an operation. Types that stand in several
// places are kept in the registry.
func Of(op *control.Operation, registry huma.Registry) (*Set, error) {
	s := &Set{registry: registry, kind: op.Params,
		Schema: &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}}
	for _, f := range reflect.VisibleFields(op.Params) {
		if f.Anonymous {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			return nil, fmt.Errorf("internal error: parameter %s of %s has no name", f.Name, op.Name)
		}
		p := Field{Name: name, Kind: f.Type.Kind(), Schema: huma.SchemaFromField(registry, f, op.Params.Name()+f.Name)}
		p.Needed = options == "" || strings.Contains(op.Path, "{"+name+"}")
		s.Fields = append(s.Fields, p)
		s.Schema.Properties[name] = p.Schema
		if p.Needed {
			s.Schema.Required = append(s.Schema.Required, name)
		}
	}
	s.Schema.PrecomputeMessages()
	return s, nil
}

// Field finds a parameter by its name.
func (s *Set) Field(name string) (Field, bool) {
	i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, false
	}
	return s.Fields[i], true
}

// Decode checks values, which are those of decoded JSON, and makes a pointer to
// the operation's struct of them.
func (s *Set) Decode(values map[string]any) (any, []Fault) {
	var result huma.ValidateResult
	huma.Validate(s.registry, s.Schema, huma.NewPathBuffer([]byte{}, 0), huma.ModeWriteToServer, values, &result)
	var faults []Fault
	for _, err := range result.Errors {
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			faults = append(faults, Fault{Clip(detail.Location), Clip(detail.Message)})
			continue
		}
		faults = append(faults, Fault{"", Clip(err.Error())})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	params := reflect.New(s.kind).Interface()
	raw, err := json.Marshal(values)
	if err == nil {
		err = json.Unmarshal(raw, params)
	}
	if err != nil {
		return nil, []Fault{{"", Clip(err.Error())}}
	}
	return params, nil
}

// Clip shortens what a caller wrote.
func Clip(s string) string {
	const most = 200 // bytes
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// Lists says whether the operation gives a list in pages.
func (s *Set) Lists() bool {
	_, limit := s.Field("limit")
	_, cursor := s.Field("cursor")
	return limit && cursor
}
