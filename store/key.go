package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
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
		key := make([]byte, seal.KeySize)
		rand.Read(key)
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
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != seal.KeySize {
		return nil, fmt.Errorf("%s is no key of %d bytes in hexadecimal digits: put the right one back; without it the project cannot be read", path, seal.KeySize)
	}
	return key, nil
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
