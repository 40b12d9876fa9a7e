// Package mcp is Holdfast's face towards language models: the operations of
// package control as tools of the Model Context Protocol.
//
// Operations are grouped by noun: a tool is a noun, and its parameter action
// says what to do, as in rules with the actions list, get and enable. The tools
// session and macros have the actions, names and meanings of Hugin's. Which
// operation is which action stands in the table of package control; the schemas,
// the descriptions and the checks are made of it, with the same code as the
// API's. A tool has one flat schema (models' hosts refuse schemas that have a
// choice at the top); which action takes which parameter stands in the texts,
// and is checked on every call.
//
// A Server speaks over a pair of streams (Run), or by HTTP (Handler), where it
// answers both the revision of 2026-07-28, which has no sessions, and older
// ones, which have. It does operations by a Caller: a Desk in the same process,
// or a running serve that is asked by its API.
//
// Answers are one text of JSON, small unless more is asked for: lists have
// cursors, a flow is shown without its bodies. What takes long (the run of a
// macro) is waited for up to a limit, reports its progress, and is cancelled
// with its call.
//
// What an application or a client wrote is data for a model, and may be hostile:
// answers that hold such text stand between two lines with a random word that
// the text cannot know, and long texts stand by themselves. The descriptions of
// the tools say so.
//
// Secrets are left out by package control, unless the call asks for them with
// reveal and Holdfast was started so that it shows them.
//
// Bounds, all of them in limits.go: what is asked and answered, calls at a time,
// sessions, and for how long one may be idle.
//
// What this package does not do: it checks nobody's token, which is the work of
// who serves its Handler, and it decides nothing about traffic.
package mcp
