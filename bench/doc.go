// Command bench measures what a proxy costs, next to other proxies on the same
// work.
//
// It starts an origin on loopback, then each proxy of a table (proxies.yaml) as
// a process of its own, drives the same requests through it and reads from
// /proc what the process used: processor time per request, peak memory, memory
// per thousand idle tunnels. Beside these it reports requests per second and
// latencies as the client saw them. Every figure is the median of several
// rounds; the order of the proxies changes from round to round.
//
// Absolute figures move from machine to machine and from minute to minute, so
// each one also stands as a ratio to the reference: a tunnel in this package
// that answers CONNECT, decrypts, frames HTTP/1 with a codec of its own,
// encrypts again towards the origin, one connection for one, and does nothing
// else. What a proxy costs above the reference is the price of its features;
// what the reference costs above nothing is the price of system calls and
// encryption.
//
// The client, the origin and the reference are deliberately not made of the
// packages of Holdfast nor of net/http: a ruler must not change its length with
// what it measures, and cheap ends leave the proxy as the bottleneck.
//
// Run it from the root of the module:
//
//	go run ./bench                              everything, about five minutes
//	go run ./bench --only plain,https           two works
//	go run ./bench --proxies reference,holdfast two proxies
//	go run ./bench --quick                      one short round: does it work?
//	go run ./bench --json                       for a program to read
//
//	go run ./bench hostile                      a well-behaved client next to hostile ones
//	go run ./bench deaths                       sessions that die all the time, and what clients notice
//	go run ./bench fleet                        the same for nodes on one PostgreSQL, one of them stopped, or it restarted
//
// The origin and the two tunnels can be run by hand, too:
//
//	go run ./bench origin|reference|splice --listen 127.0.0.1:0
//
// What it will not do: leave loopback, store anything, judge whether a proxy is
// correct beyond counting answers that are not the expected ones, or compare
// runs of different machines. Processor time and memory need Linux's /proc; on
// other systems those columns stay empty.
package main
