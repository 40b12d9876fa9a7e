package client

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// The names of the files in a home directory.
const (
	PlaceFile = "api.json"
	TokenFile = "api-token"
)

// Several processes may serve with one home directory, each another project. All
// say so in a file of their own, ownPlace with their process, and the first of
// them in PlaceFile too.
const (
	ownPlace  = "api-%d.json"
	ownPlaces = "api-*.json"
)

// Place says where an API is: the JSON shape of version 1.
type Place struct {
	Version int       `json:"v"`
	URL     string    `json:"url"`
	Project string    `json:"project,omitempty"` // the DSN, without its password
	Token   string    `json:"token_file"`
	PID     int       `json:"pid"`
	Began   time.Time `json:"began"`
}

// tokenBytes is how much chance there is in a token.
const tokenBytes = 32

// Token reads the token of a home directory, or makes one. One that others than
// the owner could read is replaced.
func Token(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	info, err := os.Lstat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 == 0 {
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if token := string(bytes.TrimSpace(raw)); len(token) >= tokenBytes {
			return token, nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, tokenBytes)
	rand.Read(raw) // never fails, says its doc
	token := hex.EncodeToString(raw)
	return token, write(path, []byte(token+"\n"))
}

// Announce says in a home directory where the API is of a project, whose DSN has
// no password, and in which file its token; "" is that of the directory.
func Announce(dir, url, project, token string) error {
	if token == "" {
		token = filepath.Join(dir, TokenFile)
	}
	token, err := filepath.Abs(token)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(Place{1, url, project, token, os.Getpid(), time.Now().UTC()})
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if err := write(filepath.Join(dir, fmt.Sprintf(ownPlace, os.Getpid())), raw); err != nil {
		return err
	}
	first := filepath.Join(dir, PlaceFile)
	if p, err := place(first); err == nil && p.PID != os.Getpid() && runs(p.PID) {
		return nil // another one's, which stays there
	}
	return write(first, raw)
}

// Withdraw takes that back. What another process said stays.
func Withdraw(dir string) {
	for _, name := range []string{PlaceFile, fmt.Sprintf(ownPlace, os.Getpid())} {
		path := filepath.Join(dir, name)
		if p, err := place(path); err == nil && p.PID == os.Getpid() {
			os.Remove(path)
		}
	}
}

// Places lists those that serve with a home directory, the first that began
// first. What a process left that was killed is removed.
func Places(dir string) (all []*Place, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, ownPlaces))
	if err != nil {
		return nil, err
	}
	seen := make(map[int]bool)
	for _, path := range append(paths, filepath.Join(dir, PlaceFile)) {
		p, err := place(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has ended just now
		case err != nil:
			return nil, err
		case !runs(p.PID):
			if filepath.Base(path) != PlaceFile { // which the next one replaces
				os.Remove(path)
			}
		case !seen[p.PID]:
			seen[p.PID] = true
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *Place) int { return a.Began.Compare(b.Began) })
	return all, nil
}

func place(path string) (*Place, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p Place
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return &p, nil
}

// runs reports whether there is such a process.
func runs(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	if runtime.GOOS == "windows" {
		return true // FindProcess has asked already, and there are no signals
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, syscall.EPERM)
}

// write has the file hold the text, for its owner alone; others see the old
// file or the new one.
func write(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	_, err = f.Write(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
