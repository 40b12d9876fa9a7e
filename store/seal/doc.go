// Package seal keeps contents from whoever has a file but not its key.
//
// A [Box] has one key of 32 random bytes. What it seals is encrypted and
// authenticated by AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits
// in front and 16 bytes of tag behind, bound to a place: sealed bytes moved to
// another row do not open. 2^32 seals under one key are the limit of random
// nonces; each process therefore draws a key of its own for its rows (HKDF from
// the box's key and a random salt in front of the nonce).
//
// [Box.Sum] is a keyed digest (HMAC-SHA-256), so that equal contents are found
// without telling which.
//
// The package opens no files and asks no keyring; [New] takes the key's bytes.
package seal
