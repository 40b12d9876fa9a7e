// Package redact says what is a credential by its name and its place in a text:
// the one table, for the archive that is written without secrets, for what the
// API and the commands show, and for what a query of somebody is asked about who
// may not see secrets.
//
//   - [Name] judges the name of a field, a parameter, a cookie or a member.
//   - [Values] finds the values of such names in a text: in queries and forms, in
//     JSON (also in a text within JSON), in parts of multipart forms, in fields of
//     HTML, in lines "name: value", and passwords in URLs.
//
// It finds, and does not replace: the archive keeps lengths, what is shown does
// not. Heads of messages are the callers', who know cookies and schemes.
//
// What it does not do: it decodes nothing, and cannot know a credential that
// nothing names. It reads bytes, so a text may be of any encoding that has ASCII
// in it. The time it takes grows with the length of the text alone.
package redact
