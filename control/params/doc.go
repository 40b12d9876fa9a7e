// Package params describes and checks the parameters of operations.
//
// A Set is made of the type of an operation's parameters, which package control
// has as a struct: names are those of JSON, what may be absent is marked there
// by omitempty or omitzero, and the texts and bounds stand in the tags doc,
// minimum, maximum, minLength, maxLength, maxItems and enum, as package huma
// reads them. The description is a JSON schema; what a caller gives is held
// against that schema and made the struct, so what is described and what is
// checked cannot differ, on no face.
//
// A mistake is a Fault: the parameter, and what is wrong with it. Texts that a
// caller wrote are shortened in it.
//
// What this package does not do: it knows no operation by name and calls none.
package params
