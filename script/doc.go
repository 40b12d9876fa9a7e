// Package script runs the JavaScript of a configuration: a [Program] is
// compiled once, and a [Runner] runs it, each time in a world of its own.
//
// A program sees a request, and the answer to it where there is one, reads and
// sets variables and cookies of one identity, has cryptographic helpers, and
// may ask an origin by fetch. docs/scripts.md is the reference for those who
// write one. What it may do in a run is what its [Call] holds: what is nil
// there can be read or done by no script.
//
// # Edits
//
// A script changes a head by the edits of package wire, one field or word at a
// time, so that every byte that it does not name stays. Variables that it sets
// are handed over at the end of a run that worked, all of them or none.
//
// # Limits
//
// A script that never ends, or that wants all the memory, ends within its
// [Limits]; the proxy goes on. Time, calls inside each other, log and fetches
// are counted exactly. Memory is not: the engine, goja, counts none. So
//
//   - what builds much out of little (repeat, join, new Array, JSON, …) refuses
//     what would be larger than an eighth of the limit, or a million elements;
//   - while scripts run, the heap of the process is looked at every few
//     milliseconds. Has it grown by more than the limit since a script was
//     first seen, and is still so after a collection, the script that has run
//     longest ends; at twice the limit it ends at once.
//
// One operation is never interrupted, so the process may for a moment hold a
// few times the limit. What cannot be bounded is not there: eval, Function,
// Proxy, BigInt.
//
// # What it will not do
//
// It dials nobody: fetch is a function that it is given. It reads no file,
// knows no module and no timer, and keeps nothing from one run to the next.
package script
