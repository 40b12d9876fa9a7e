package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strconv"
)

// A Keeper keeps rows over a restart. Any goroutine may call its methods.
type Keeper interface {
	// Load returns the rows of an owner, of one kind or for "" of all. Those
	// that are gone may be among them, with no value.
	Load(ctx context.Context, kind, owner string) ([]Row, error)
	// Save makes rows durable, all of them or none, before it returns. A row
	// that is not newer than what is kept is left out; where it has Must,
	// nothing is written, and the error is ErrOutdated.
	Save(ctx context.Context, rows ...Row) error
}

// Row is one thing that is kept.
type Row struct {
	// Kind is one of the Kept constants. Owner is an identity and which of its
	// sessions, see OwnerOf, or what names a secret without telling it; Name is
	// a recovery, a token or a cookie. They are text without NUL, 240 bytes at
	// most but for Owner, and not secret.
	Kind, Owner, Name string
	// Version orders the rows of one name; one with a higher fence is newer in
	// any case.
	Version, Fence uint64
	Must           bool
	// Lease is whose fence the row has; a row with Must is not newer than what
	// is kept where somebody has acquired that lease since. "": nobody's.
	Lease string
	Value []byte // a secret; empty: it is gone
}

// ErrOutdated is the error of Keeper.Save for a row with Must that is not newer
// than what is kept.
var ErrOutdated = errors.New("session: what is kept is newer")

// What is kept.
const (
	KeptSession = "session"
	KeptToken   = "token"
	KeptCookie  = "cookie"
	KeptLockout = "lockout" // failed logins; its owner is the identity, all sessions of it
	KeptCode    = "code"    // the last step of one-time codes
)

// OwnerOf names one of an identity's sessions for a Keeper, the first being 0.
// It is the same as long as the identity has its name.
func OwnerOf(identity string, number int) string {
	owner := url.PathEscape(identity)
	if number > 0 {
		owner += "#" + strconv.Itoa(number+1)
	}
	return owner
}

// maxRowName bounds a row's name in bytes; a longer one is replaced by its hash.
const maxRowName = 240

// rowName is a name as rows have it: of any bytes it makes text.
func rowName(parts ...string) string {
	name := ""
	for i, p := range parts {
		if i > 0 {
			name += " "
		}
		name += url.PathEscape(p)
	}
	if len(name) > maxRowName {
		sum := sha256.Sum256([]byte(name))
		return "sha256 " + hex.EncodeToString(sum[:])
	}
	return name
}
