// Package derive makes a macro from a recorded login: which of the recorded
// requests are needed, which of their values an earlier answer brought, and
// where in that answer they stood.
//
//	recording, err := convert.Read(file, convert.Options{})
//	draft, err := derive.From(recording.Exchanges, derive.Options{})
//	m, err := draft.Macro()      // to run
//	text, err := draft.YAML()    // to keep: a configuration with macro and variables
//
// [Prove] does the same and runs the macro twice, each time with an empty jar:
// a value that differs from run to run and that no step derives is then derived
// after all, or listed with its step and place.
//
// # What is derived
//
// Of each request the places where a value can stand are looked at: parameters
// of the query, of forms and of multipart bodies, members of JSON, header
// fields, segments of the path, and cookies that no answer set. A value is
// looked for in all answers before, as it stands there and undone of URL, HTML,
// JSON or base64 encoding. Of several places the one is taken that is least
// likely to break: a field or a meta element by its name, a parameter of a
// redirect, a path in JSON; then an element by a selector; then a header or a
// cookie; then a text between anchors. Each is tried on the recorded answer, and
// must give exactly the recorded value.
//
// Cookies are the jar's business. Credentials become variables by the names of
// their fields, by the form that asked for them, or by values that the caller
// gives; origins become BASE, BASE2 and so on.
//
// # What is dropped
//
// Requests that carry no credentials, from whose answers nothing is derived and
// whose cookies no needed request sends; each with the reason.
//
// # What it will not do
//
// It opens no connection: Prove calls the Send that it is given. It runs no
// script, so a value that a page's script computes is found to be missing, not
// computed. Texts of a Draft's notes and of a Proof hold no values of tokens,
// cookies or credentials; its variables, requests and YAML do.
package derive
