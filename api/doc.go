// Package api is Holdfast's face towards programs: the operations of package
// control as a REST API below /api/v1, a stream of events, and figures for a
// monitoring system at /metrics. Another face, for language models, may answer
// at /mcp of the same address.
//
// The routes, the checks of parameters and the OpenAPI 3.1 document at
// /api/v1/openapi.json are all made of the one table in package control, so
// they cannot differ. Parameters that a path names stand there; the others of
// GET and DELETE are a query, those of POST and PUT a JSON object. What is not
// known is an error. Errors are problem documents (RFC 9457) with a code that is
// stable, one sentence, and the next step.
//
// Who may ask. The pages that a tester visits through Holdfast are hostile, run
// on the same machine, and can have a browser send requests here. So, in this
// order, for every path:
//
//   - Host must be the address that was connected to, or a name that was
//     configured: a name of somebody else's that resolves to here (DNS
//     rebinding) is refused.
//   - A request that a browser says comes from another origin (Origin,
//     Sec-Fetch-Site) is refused. No answer carries a header that would allow it.
//   - The token must be there (Authorization: Bearer), and is compared in
//     constant time. The right one always passes; an address that brings wrong
//     ones too often is told so.
//
// In place of the token a browser has what a link that is good once gave it: a
// cookie, bound to the Host, and a key that its page sends besides, since a cookie
// goes to other ports too.
//
// Only loopback addresses are listened at, unless there is a token that a person
// chose. The proxy itself is kept from these addresses by Holdfast.Shield.
//
// Bounds: connections, the size of heads and bodies, the time for each, and the
// listeners to events. A listener that does not keep up is told and let go.
//
// What this package does not do: it holds no state of its own, and knows nothing
// of sessions. TLS is left to who puts a reverse proxy in front.
package api
