// Package control is what can be done to a running Holdfast from outside, as
// one table of operations.
//
// An Operation has a name, a text, the type of its parameters, the type of its
// result, what it may break, and how it is called on each face: a method and a
// path of the REST API, the name of a tool for a model, the words of a command.
// A face it is not on is "-". The faces are projections of the table: package
// api makes the routes and the OpenAPI document of it, and the command line
// calls those. So there is one place where what exists is written down, and a
// golden test that shows it.
//
// A Desk is what operations work on: the Holdfast, the newest lines of its
// trace, the recordings and the runs (of macros, of learning) that somebody
// began, and those who listen to its events. Everything in it is bounded; a listener who does not keep up is let
// go, and told.
//
// Secrets (the values of tokens, variables and cookies, what macros send and
// get) are left out of results unless the caller asks for them with reveal and
// the Desk was made to allow it. Whether an operation can reveal something
// stands in the table.
//
// Errors are *flow.Error: a reason that is stable and made for machines, the
// status of HTTP that fits, one sentence without secrets, and the next step.
//
// What this package does not do: it opens no socket, knows no HTTP, checks
// nobody's token (that is the face's business), and decides nothing about
// traffic: it asks the engine to. Changes are not written into the
// configuration file; macros and rules that were changed lie over it.
package control
