// Package macro runs a sequence of requests that logs in, refreshes or probes:
// each [Step] is a request template, what to take from its answer, and what
// the answer must be like.
//
// [Macro.Run] builds each request from the variables known so far, has it sent
// through [Env.Send], and judges the answer. The first step that fails ends the
// run with a [*StepError], whose Kind says whose fault it is: a refused
// password counts against the lockout guard, a refused connection does not.
// Values are handed over whole at the end or not at all, except that a failed
// run still reports, in Partial, new values of variables that its requests had
// spent: a rotated refresh token must not be lost.
//
// # Request templates
//
//	POST {{BASE}}/auth/login HTTP/1.1
//	Content-Type: application/json
//
//	{"username":"{{USER}}","password":"{{PASS}}"}
//
// A target with a scheme says where the request goes, else the Host field does.
// The head's line ends become CRLF, Host and Content-Length are filled in, and
// every other byte goes out as it is written. A value is encoded as its place
// needs: as in a JSON string between the quotes of a JSON body, percent-encoded
// in a query and in a form body, else as it is. A value can never end a line of
// the head. {{raw:NAME}} is never encoded.
//
// A [Browser] stands for a macro whose login is made in a browser; package
// browser makes it, by [Env.Browse].
//
// # What it will not do
//
// It opens no connection, follows redirects only where a step says so
// ([Redirects]), and reads at most [MaxBody] of an answer. It does not decide when a macro runs or what is
// done with the values; that is package session. A Macro never changes while it
// runs: any number of goroutines may run the same one.
package macro
