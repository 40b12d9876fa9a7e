package api

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-proxy/holdfast/control"
)

// Document is the OpenAPI document of the table.
func Document() ([]byte, error) {
	doc, _, err := project(control.Operations())
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(doc, "", "  ")
}

// Conforms lists what of an answer is not as the document says it is.
func Conforms(operation string, answer []byte) ([]error, error) {
	_, routes, err := project(control.Operations())
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(answer, &value); err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.op.Name == operation {
			var result huma.ValidateResult
			schema := r.registry.Schema(r.op.Result, true, "")
			huma.Validate(r.registry, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, &result)
			return result.Errors, nil
		}
	}
	return nil, nil
}

// Endpoints are the patterns of all that a server answers.
func (s *Server) Endpoints() ([]string, error) {
	all, err := s.endpoints(nil)
	patterns := make([]string, len(all))
	for i := range all {
		patterns[i] = all[i].pattern
	}
	return patterns, err
}
