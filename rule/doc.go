// Package rule says which requests are kept logged in, and how: what is in
// scope, what a dead session looks like, where a token comes from in a
// response and where it goes in a request.
//
// A [Rule] is plain data with a name for each key of the configuration file.
// [Compile] checks a list of them whole and makes an immutable [Set], which any
// number of goroutines may ask. [Set.Match] is on the path of every request: it
// allocates nothing when no rule is in scope, and finds the rules of a host by
// its name however many others there are.
//
// # Scope
//
// A pattern is one of three kinds; without a Target its look decides.
//
//   - host: "shop.example", "*.shop.example", "api-*.shop.example:8443". A star
//     is any run of characters. A leading "*." covers every name below and the
//     name itself, so "*.shop.example" covers shop.example too. Without a port
//     every port is meant. Case does not matter.
//   - url: the beginning of a URL, compared byte for byte after the host:
//     "https://shop.example/admin" covers /admin, /admin/x and /administrator.
//     The host is always compared whole. With a scheme and no port the scheme's
//     own port is meant; with no scheme both schemes and, where none is named,
//     every port. A star in the path is any run of characters.
//   - regex: searched for in the whole URL, scheme://host[:port]/path?query,
//     host in lower case, the port left out where it is the scheme's own.
//
// Where a request goes is its [flow.Origin], not its Host field.
//
// Include and Exclude are lists of patterns and of Burp's two forms ([URLs]),
// which do not look at case. [Scope.Explain] says why a rule is for a request,
// or why not.
//
// Rules are filed under the host, the parents of the host, four bytes of the
// URL or the method, whichever the fewest share; patterns of hosts are tried
// once per host. What is left is tried on every request.
//
// # Checks
//
// [Check] turns each kind of check of the configuration into an HTTPQL
// condition, so there is one judge of responses. Texts are looked for as they
// are written, in the same case.
//
// # Sources and targets
//
// A [Source] takes a value out of a response, or out of the request that it
// answers; a [Target] puts it into a request and changes only the bytes that it
// names. An empty value is no value. A value that would create a line in the
// head, another cookie, or markup where a text stands, is refused.
//
// Bodies are read and never written again: an edit finds the bytes of its place
// and replaces these. JSON, forms and multipart bodies have readers of their
// own for that, since no library tells where values stand and in what order
// they come; XPath and selectors are libraries' that look at trees of ours,
// whose size is bounded.
//
// # Actions
//
// An [Action] is done to a request besides the tokens, in the order of
// [Rule.Actions]. Here is what each may say, and what it edits; those that run
// a macro are package session's. [OffersOf] reads which parameters an answer
// offers for later requests, and where they lead: an action takes a value for a
// request only where it leads to the request's own URL, unless that is
// tolerated. A [CheckSession] whose probe is the request becomes the rule's
// Dead and Recovery, so there is one judge of answers.
//
// # What it will not do
//
// It sends nothing, keeps no tokens and reads no clock. It does not follow the
// rule of one host from another, knows no identities, and does not decide when
// a session is recovered: that is package session. Regexes have Go's syntax;
// one that needs look-around is tried with a backtracking engine, which gives
// up after 200 ms and then has not matched.
package rule
