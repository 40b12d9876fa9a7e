package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-proxy/holdfast/store/seal"
)

// KeyFile is the name of the file in the home directory that has the key, in
// hexadecimal digits, mode 0600.
const KeyFile = "store.key"

// Key returns the key in a home directory; the first call draws it. A file that
// others may read is refused.
func Key(home string) ([]byte, error) {
	path := filepath.Join(home, KeyFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := NewKey()
		err := writeNew(path, hex.EncodeToString(key)+"\n")
		if err == nil {
			return key, nil
		}
		if !errors.Is(err, fs.ErrExist) { // else another process was first
			return nil, err
		}
		info, err = os.Stat(path)
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %o): chmod 600 it, and take what it sealed for known", path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(string(raw), inKeyring) {
		return nil, fmt.Errorf("%s says that the key is in the keyring of the system", path)
	}
	key, err := ParseKey(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return key, nil
}

// NewKey draws a key.
func NewKey() []byte {
	key := make([]byte, seal.KeySize)
	rand.Read(key) // never fails, says its doc
	return key
}

// ParseKey reads a key as it is written down.
func ParseKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != seal.KeySize {
		return nil, fmt.Errorf("is no key of %d bytes in hexadecimal digits: put the right one back; without it the project cannot be read", seal.KeySize)
	}
	return key, nil
}

// KeyPath is where the file with the key of a home directory is.
func KeyPath(home string) string { return filepath.Join(home, KeyFile) }

// inKeyring begins a key file whose key is in the keyring of the system, under
// the account that follows.
const inKeyring = "keyring:"

// maxKeyFile bounds what is read of a key file, in bytes.
const maxKeyFile = 1 << 10

// KeyringAccount is under which account the keyring of the system has the key of
// a home directory; "": it is in the file. made says whether there is a key at
// all.
func KeyringAccount(home string) (account string, made bool, err error) {
	f, err := os.Open(KeyPath(home))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	account, _ = strings.CutPrefix(strings.TrimSpace(string(raw)), inKeyring)
	if !strings.HasPrefix(string(raw), inKeyring) {
		account = ""
	}
	return account, true, err
}

// NewKeyringAccount draws a name for a key in the keyring: homes of one person
// have keys of their own.
func NewKeyringAccount() string { return "key-" + strings.ToLower(rand.Text()) }

// NameKeyring has the key file of a home directory say that the key is in the
// keyring. The key that stood there is gone; with fresh, the error is fs.ErrExist
// where one stands there.
func NameKeyring(home, account string, fresh bool) error {
	if fresh {
		return writeNew(KeyPath(home), inKeyring+account+"\n")
	}
	return replaceKey(home, inKeyring+account+"\n")
}

// PutKey writes a key into the file of a home directory, in the place of what
// stood there.
func PutKey(home string, key []byte) error { return replaceKey(home, hex.EncodeToString(key)+"\n") }

func replaceKey(home, text string) error {
	f, err := os.CreateTemp(home, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), KeyPath(home))
}

// writeNew writes a file that must not exist yet, whole or not at all.
func writeNew(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // fails where there is one
	}
	return err
}
