package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// CodesFile is the name of the file in the home directory.
const CodesFile = "totp.json"

// Codes keeps which time step's one-time code was used last, by key, as
// Failures keeps failed logins. Any goroutine may call its methods.
type Codes struct {
	path string
	mu   sync.Mutex
}

// OpenCodes uses the file in dir, which must exist. The file itself is made by
// the first Save.
func OpenCodes(dir string) *Codes { return &Codes{path: filepath.Join(dir, CodesFile)} }

// Load returns the step of a key; 0 is none.
func (s *Codes) Load(key string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	return all[key], err
}

// Save replaces the step of a key.
func (s *Codes) Save(key string, step int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.read()
	if err != nil {
		return err
	}
	all[key] = step
	return writeJSON(s.path, all)
}

func (s *Codes) read() (map[string]int64, error) {
	all := make(map[string]int64)
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read (%w); wait until the codes of before are over, then remove the file", s.path, err)
	}
	return all, nil
}
