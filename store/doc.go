// Package store is what survives a restart: a project.
//
// A project is one SQLite file in WAL mode, or, for a team or a fleet, one
// PostgreSQL schema that any number of nodes share. The SQL is the same but for
// what [dialect] knows and the types in migrations/: ids are made by the
// application, times are int64 microseconds since 1970 UTC, flags are 0 or 1.
//
//	flows, packs    history: what was exchanged; written behind the traffic's back
//	bodies          those of more than 4 KiB, each once
//	blocks          what a search for text can leave out, without telling the text
//	state           sessions, tokens, cookies, lockouts, codes: durable before an answer goes on
//	leases          who of a fleet logs in, with a fence that outdates the late
//	changes         versions of what nodes read again; see [Store.Watch]
//
// All that was on the wire or is secret is sealed (package seal) before it gets
// here in rows: the file alone tells hosts, methods, statuses and times, and no
// content. What is asked of content is found by keyed signatures first and then
// read and judged by the same evaluator as in memory, so that the three
// evaluators cannot disagree.
//
// Migrations only go forward, run under a lock, and are kept for ever. A project
// of a newer version is refused, not read.
//
// A [Store]'s methods may be called by any goroutine. Opening and closing is one
// goroutine's work.
//
// It does not know what sessions or rules mean, draws no conclusions from flows,
// and never touches the network but for PostgreSQL.
package store
