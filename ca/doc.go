// Package ca makes the certificates with which Holdfast answers for other
// hosts: one root that the tester trusts once, and under it a leaf for every
// host name that somebody connects to.
//
// An [Authority] is made by [New] in memory, or by [Open] from a file, where
// the first start makes the root and every later one finds it again. All file
// access is in [Open]; the rest of the package takes the time from a clock
// func and does nothing but arithmetic.
//
//	authority, err := ca.Open(dir, time.Now)
//	config := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
//		return authority.Leaf(h.ServerName)
//	}}
//
// What a leaf is:
//
//   - ECDSA P-256. All leaves share one key, since making a key per host (RSA
//     above all) is what makes the first connection to a host slow. The key is
//     derived from the root's key, so it is the same after a restart and on
//     every node that has the same root: a browser that was told to accept
//     [Authority.SPKI] stays content.
//   - Valid from 30 days ago for 395 days altogether, so that a device whose
//     clock is weeks off still accepts it, and no client that refuses more
//     than 397 days has a reason to. It is made anew 30 days before its end.
//   - For exactly one name, as a DNS name or an IP address in the alternative
//     names (RFC 5280 §4.2.1.6). Names with letters outside ASCII become
//     their A-labels (RFC 5891). The common name repeats the name where it
//     fits into the 64 characters of RFC 5280 appendix A.1.
//   - For TLS servers only (extended key usage serverAuth), with a random
//     serial number of 127 bits and both key identifiers.
//
// [CacheSize] leaves are kept, the least recently used goes first. Callers
// that ask for one name at the same moment share one signature.
//
// What the package will not do: it groups no names under wildcards (a leaf
// for *.example.com would be valid for hosts that nobody asked about), it
// does not copy fields out of the origin's certificate, it publishes no
// revocation lists, and it never writes over a root that exists.
//
// An Authority may be used by any number of goroutines.
package ca
