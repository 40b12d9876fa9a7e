// Package archive writes a project into one file, and reads such a file into an
// empty project.
//
// An archive is a tar in gzip, or that encrypted by age (age-encryption.org/v1):
//
//	manifest.json   format, version, and whether it has secrets
//	flows/N         one flow, as store.Stored.Encode writes it
//	state/N         one row of sessions, tokens, cookies, lockouts, as JSON; with secrets only
//	end.json        how many there are of each: what has no end is not whole
//
// Without secrets there are no rows, and a [hider] takes credentials out of the
// flows: by their places (fields of heads, parameters and members with the names
// of credentials), and their values wherever else they stand, decoded bodies
// included. It cannot know a credential that nothing names: the manual tells
// what is left.
//
// What is read may be anybody's: entries and their sum have limits, one flow is
// in memory at a time, and the project has all of it or nothing.
//
// It asks nobody, and knows no names of files: that is for the command. It knows
// nothing of tables: that is for package store.
package archive
