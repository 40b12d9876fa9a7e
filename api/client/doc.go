// Package client asks a running `holdfast serve` by its API.
//
// A Client is opened from a home directory, where serve leaves its address and
// its process (api.json) and the token (api-token), both for their owner alone;
// or made of an address and a token. Call does an operation of the table in
// package control by its name, with that package's types or any that have the
// same JSON; Follow hears of events. An error that the API gives is a *Problem,
// with its code and its next step; that nobody serves is ErrNotServing.
//
// Requests never go through a proxy, whatever the environment says: HTTP_PROXY
// is likely Holdfast itself, which refuses them. Answers are read up to a limit.
//
// The files are written here too, by Announce and Token, so that what they hold
// is written down in one place.
//
// What this package does not do: it starts no Holdfast, and keeps nothing.
package client
