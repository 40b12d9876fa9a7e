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
	"syscall"
	"time"
)

// The names of the files in a home directory.
const (
	PlaceFile = "api.json"
	TokenFile = "api-token"
)

// Place says where an API is: the JSON shape of version 1.
type Place struct {
	Version int       `json:"v"`
	URL     string    `json:"url"`
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

// Announce says in a home directory where the API is, and in which file its
// token; "" is that of the directory.
func Announce(dir, url, token string) error {
	if token == "" {
		token = filepath.Join(dir, TokenFile)
	}
	token, err := filepath.Abs(token)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(Place{1, url, token, os.Getpid(), time.Now().UTC()})
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, PlaceFile), append(raw, '\n'))
}

// Withdraw takes that back, unless another process has said so meanwhile.
func Withdraw(dir string) {
	if p, err := place(dir); err == nil && p.PID == os.Getpid() {
		os.Remove(filepath.Join(dir, PlaceFile))
	}
}

func place(dir string) (*Place, error) {
	raw, err := os.ReadFile(filepath.Join(dir, PlaceFile))
	if err != nil {
		return nil, err
	}
	var p Place
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", filepath.Join(dir, PlaceFile), err)
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
