// Package config reads the configuration file: YAML, of which JSON is a part,
// compiled to rules, macros and identities.
//
// The format is a superset of the rule file that Hugin's session rules
// describe: a file in that form loads as it stands and means the same. Every
// key is described in docs/configuration.md; a test holds that page and this
// package together.
//
//	variables:    name → text; ${env:NAME} and ${file:PATH} are replaced here and only here
//	identities:   name → variables
//	macros:       list of {name, id, steps}: how to log in
//	rules:        list of {name, scope, validation, reauth_macro, token_updates, …}
//	upstream, direct, resolve, origins, timeouts, throttle: ways out
//	auto_extract, auto_inject, lockout, limits
//	listen, proxy_password, pass_through, auto_pass_through: how clients come in
//
// A mistake is never passed over in silence and never hides the next one: the
// file is walked node by node, and everything that is wrong with it comes back
// at once, each [Problem] with file, line, column, what is wrong and what to do
// about it. Unknown keys are mistakes, and so are macros that do not exist,
// regexes without the one group they need, variables that nothing defines, and
// checks that can never fire.
//
// Columns count characters from 1. Inside a scalar written on one line, and
// inside a block after `|`, the place is exact to the character; inside folded
// or wrapped text it is where the scalar begins.
//
// Secrets. The value of a variable stands in no message. An excerpt shows
// *** for every value below variables and identities, and for the headers and
// bodies of macro requests; of a file that cannot be read as YAML it shows
// little but keys and punctuation.
//
// Limits: MaxFileSize, MaxNodes (with aliases counted as often as they are
// used, so nested aliases cannot grow), MaxDepth, MaxProblems.
//
// What this package does not do: it holds no state, watches no file, merges no
// second file, reads no command line, and judges no traffic. It opens only the
// file it is given, those named by ${file:…}, and those of certificates and cookies.
package config
