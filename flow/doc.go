// Package flow has the vocabulary that all other packages talk in: one
// exchange with what was done to it, and the shape of those who handle it.
//
// A [Flow] begins when the head of a request was read and ends exactly once,
// with an answer delivered or an error. In between it passes through a list of
// stages, each a function that wraps the next:
//
//	proxy → stage → stage → … → upstream
//
// A [Stage] may change the request on its way out ([Flow.Edit] keeps what the
// client wrote), judge the answer on its way back, send again, or answer
// itself by an [*Error]. Heads are [wire] messages, bodies are streams that
// one owner at a time reads; nothing here holds a body in memory, except that
// an [Attempt] keeps what somebody judged.
//
// What a stage does or decides it writes into the [Trace], with its reason: the
// trace of a flow is what a person is shown when asking why. It has a limit
// ([MaxTraceEvents]); what goes beyond is counted.
//
// A [Record] lets a condition be asked about a flow at any moment. What has not
// arrived is unknown, so that the conditions of the rules can be asked as soon
// as the head of the answer is there.
//
// An [ID] names a flow on every node and sorts by time.
//
// # What it will not do
//
// It opens nothing, reads no clock and starts no goroutine: times are given to
// it. It does not know rules, sessions or sockets; the packages that do know
// each other only through it. A flow has no lock: one goroutine owns it, and
// hands it on.
package flow
