package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// FailuresFile is the name of the file in the home directory.
const FailuresFile = "lockouts.json"

// Failures keeps the times of failed logins in one small JSON file. Every
// change is on disk (synced, then renamed into place) when Save returns. The
// file is read anew on each Load, so that another process can unlock. Any
// goroutine may call its methods.
type Failures struct {
	path string
	mu   sync.Mutex
}

// OpenFailures uses the file in dir, which must exist. The file itself is made
// by the first Save.
func OpenFailures(dir string) *Failures {
	return &Failures{path: filepath.Join(dir, FailuresFile)}
}

// Load returns the failures of a key; none is no error.
func (s *Failures) Load(key string) ([]time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	return all[key], err
}

// Save replaces the failures of a key; an empty list forgets the key.
func (s *Failures) Save(key string, failures []time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	if err != nil {
		return err
	}
	if len(failures) == 0 {
		delete(all, key)
	} else {
		all[key] = failures
	}
	return s.write(all)
}

// Forget removes every key that begins with prefix and returns how many there
// were.
func (s *Failures) Forget(prefix string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	if err != nil {
		return 0, err
	}
	n := 0
	for key := range all {
		if strings.HasPrefix(key, prefix) {
			delete(all, key)
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	return n, s.write(all)
}

func (s *Failures) read() (map[string][]time.Time, error) {
	all := make(map[string][]time.Time)
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, err
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return all, fmt.Errorf("%s is damaged (%w); see whether an account is locked, then remove the file", s.path, err)
	}
	return all, nil
}

func (s *Failures) write(all map[string][]time.Time) error { return writeJSON(s.path, all) }

// writeJSON has the file hold the value, and is done when it is on disk.
func writeJSON(path string, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	if _, err = f.Write(append(raw, '\n')); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
