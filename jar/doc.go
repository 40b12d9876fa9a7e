// Package jar keeps the cookies of one identity as RFC 6265bis has them
// (draft-ietf-httpbis-rfc6265bis; section numbers in this package are its).
//
// One [Jar] belongs to one identity; two identities never share one. It is fed
// with the Set-Cookie values of answers ([Jar.SetFromResponse]), with the
// Cookie lines of a browser's requests ([Jar.Observe]), by hand ([Jar.Put]) or
// from a file ([Jar.Import] with [DecodeJSON] or [DecodeNetscape]), and it says
// which cookies a request carries ([Jar.Cookies], [Jar.AppendHeader]). How
// those are put into a line that a client wrote itself is the business of
// [Merge].
//
// # Order
//
// Many requests are under way at once, and some applications change a cookie
// with every answer. Everything that an answer brings is therefore stamped with
// its order: the sequence number of the request that it belongs to. What a
// request that started earlier brings never overwrites, removes or revives
// what a later one brought, whenever it arrives; removed cookies are
// remembered for that. A new login at a host shuts out all requests to it that
// started before with [Jar.IgnoreBefore].
//
// # Where it decides
//
//   - Lifetimes are cut at 400 days (§5.5); the server's own words stay in
//     [Cookie].Raw. [Options] moves the limit.
//   - Cookies without Expires and Max-Age live until they are removed: the
//     "session" of §5.7 is not the browser's window but the project.
//   - SameSite and Partitioned are kept but do not withhold a cookie: a tool's
//     request has no page that it comes from. SameSite=None without Secure is
//     refused (§5.7 step 19).
//   - The prefixes __Http- and __Host-Http- (draft-ietf-httpbis-layered-cookies)
//     are enforced together with __Secure- and __Host-.
//   - "Secure" is what the caller says in [URL]; that http://localhost is
//     secure as well is an option.
//   - A cookie for an address is always host-only, and so is one whose domain
//     is a public suffix and the host itself (§5.7 step 9).
//   - Domains share a limit of 180 cookies, the jar one of 3000 (§6.1 asks
//     for 50 and 3000 at least); beyond, §5.7's order of eviction holds.
//
// The package is pure: no clock, no file, no socket, no goroutine; the time is
// an argument everywhere. It does not decide when a session is dead, does not
// talk HTTP, and does not encrypt: what it exports are secrets in the clear.
// Only the String methods keep values back.
package jar
