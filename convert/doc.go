// Package convert reads what other tools recorded, one file per format, into
// one list of exchanges, and writes such a list as HAR, as curl, or raw.
//
//	har.go    HTTP Archive 1.2 of browsers and proxies, read entry by entry
//	harout.go the same, written
//	curl.go   curl command lines, as a shell or cmd.exe would part them
//	burp.go   the XML of Burp's "save items"
//	out.go    curl command lines and raw requests, written
//	raw.go    one raw request, as a person or a tool wrote it into a file
//
// [Read] finds out which of them it is by the look of the first bytes.
//
// An [Exchange] is a request, and the answer where one was recorded. Heads are
// what wire reads: in HTTP/1's form, whatever carried them. What a format lacks
// or what could not be carried over is never dropped in silence: it stands in
// [Recording.Lost], by place and by name, without values, since these may be
// secrets. An entry that makes no sense is left out and named there too; only a
// file that is not of its format at all is an error.
//
// # What it will not do
//
// It opens no file and no connection, and reads no clock. A curl command line
// that reads its data from a file loses it. It does not interpret what was
// recorded: which value comes from where is for package macro/derive.
//
// # Limits
//
// A recording has at most [MaxExchanges] exchanges. Of a body the first
// [MaxBody] bytes are kept, of all bodies together [MaxBodies]; one entry of a
// HAR may have [MaxEntry] bytes.
package convert
