// Package holdfast is an intercepting proxy that keeps every tool behind it
// logged in. It is the top of the module: it puts the parts together and holds
// the pipeline, one visible list.
//
// The strata; imports go down only (arch_test.go is this drawing, executable):
//
//	cmd/holdfast                 flags, one file per subcommand
//	api api/client mcp           the operations by HTTP, who asks for them, and the operations as tools
//	control/params               the parameters of operations, described and checked
//	control                      what can be done to a running Holdfast: one table of operations
//	learn                        a recorded login becomes a configuration that is proved
//	holdfast                     Config, New, Run, Close, the pipeline
//	config                       the configuration file, compiled, with every mistake named
//	store                        what survives a restart
//	proxy upstream browser       motion: the only packages that touch a socket or a process
//	macro/derive                 a recording becomes a macro
//	session macro rule script    judgement: decide, never dial
//	convert                      other tools' recordings, one file per format
//	flow                         vocabulary: one exchange with its trace
//	wire httpql jar ca redact    bytes and languages: no socket, no clock, no goroutine
//
// proxy does not know that sessions exist, session does not know that sockets
// exist; they meet in Holdfast.pipeline.
//
// The life of a request:
//
//  1. proxy reads one request and makes a flow of it. The listener, the proxy
//     credentials and the request's own directives, which are taken out, say
//     which tool and which identity it is for.
//  2. session asks the compiled rules which of them cover it. None: the bytes go
//     on untouched.
//  3. A session that is known dead, or whose tokens are missing, is recovered
//     first, once for everybody who waits.
//  4. The rules put their tokens in. Each edit touches only the bytes it names
//     and is written into the flow's trace.
//  5. upstream sends the request on a pooled connection.
//  6. The answer is judged as early as it can be: on its head, and on its body
//     only where a rule asks about the body.
//  7. Dead: the session is recovered and the request sent again. The client
//     gets the live answer. If that fails it gets a 502 with the reason, never
//     a silently unauthenticated answer.
//  8. Tokens that the answer brings are taken before its last byte leaves.
//  9. After a 101, or what says the same in HTTP/2, bytes pass both ways. Of a WebSocket a copy is
//     decoded, where a rule asks for close codes or the trace for messages.
//
// What Holdfast does not do: it does not attack anything, does not scan, and
// changes nothing that no rule told it to change.
package holdfast
