// Package httpql is the language of conditions about one exchange: a query is
// parsed once and asked about many records, each time with the answer true,
// false or, while something is still to arrive, unknown.
//
//	resp.code.eq:401 OR resp.raw.cont:"Token Expired!"
//	req.host.like:"%.shop.example" AND NOT req.path.regex:/\.(css|js|png)$/
//	resp.header["Set-Cookie"].ncont:"sessid=" AND resp.redirect.cont:"/login"
//	"password" // text anywhere: (req.raw.cont:"…" or resp.raw.cont:"…")
//
// # Grammar
//
// It is HTTPQL as published (caido/httpql) and, marked (+), extensions:
//
//	query   = [ clause { ("AND" | "and" | "OR" | "or") clause } ]
//	clause  = string | "(" query ")" | compare | ("NOT" | "not") clause (+)
//	        | "preset:" (string | alias) | "source:" string
//	compare = text ("eq" | "ne" | "cont" | "ncont" | "like" | "nlike") ":" string
//	        | text ("regex" | "nregex") ":" ("/" … "/" | string)
//	        | number ("eq" | "ne" | "gt" | "gte" | "lt" | "lte") ":" digits
//	        | "req.created_at." ("lt" | "gt") ":" string
//	        | "req.tls." ("eq" | "ne") ":" ("true" | "false")
//	text    = "req." ("body" | "ext" | "host" | "method" | "path" | "query" | "raw") "."
//	        | "resp." ("body" | "raw" | "redirect" (+)) "."
//	        | ("req." | "resp.") ("header.name" | "header.value" | "header[" string "]") "."
//	        | ("flow." ("tool" | "identity" | "rule") | "session.state" | "trace.action") "." (+)
//	number  = ("row.id" | "req.len" | "req.port" | "resp.code" | "resp.len" | "resp.roundtrip") "."
//	        | ("flow.duration" | "session.generation") "." (+)
//
// AND binds tighter than OR, NOT tighter than both. A string is JSON's. A
// regex between slashes is taken as it stands. Blanks and comments (// to the
// end of the line, /* … */) stand between clauses, never inside one. A text
// has at most [MaxSource] bytes and nests at most [MaxDepth] deep.
//
// # Meaning
//
// What the definition leaves open is settled here:
//
//   - eq compares bytes. cont ignores case everywhere: of ASCII letters among
//     themselves, of others by simple folding (É and é, but ß is not ss, and
//     the Kelvin sign is not k). like is SQLite's LIKE: the whole value, % any
//     run, _ one character, only ASCII letters without case. regex is Go's
//     regexp, unanchored. Where Rust's regex crate differs, the pattern is
//     translated (\d, \w, \s of Unicode, \u{…}, {,n}, the flag u) or refused
//     (look-around, (?x), set operations in classes). \b is of ASCII.
//   - Header names ignore case in header["…"], and only there. A negative
//     comparison over several values means that none matches, and so it is
//     true of none: resp.header["X"].ne:"a" is true of a response without X.
//   - Without a response every resp comparison is false, the negative ones
//     too; NOT of one is true. The same holds for a row that is not stored.
//     A part that a message lacks (query, ext, body, redirect) is empty text.
//   - body is without transfer and content codings, its charset untouched.
//     raw is the head as it stands, then that body: a person who searches
//     means the text. len is the length of raw.
//   - resp.redirect is the first Location of a 3xx answer as it stands.
//   - The empty query and () are true of everything.
//   - A date is RFC 3339, ISO 8601, RFC 2822, RFC 9110 or ISO 9075, a date
//     alone too; UTC where it names no zone. Others are refused.
//   - source is the published name of flow.tool: replay, automate (fuzz),
//     plugin (authz), workflow (macro, script), and intercept for all others.
//   - roundtrip and flow.duration are in milliseconds.
//
// A value of which only the beginning is there answers what is certain
// already: cont and a regex without operators are true as soon as they match.
//
// # What it will not do
//
// It decodes no body, reads no clock and stores nothing. Its evaluator is the
// definition: one that works on a database may only narrow down beforehand.
package httpql
