package ca

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Files in the directory that Open is given.
const (
	// RootFile holds the root's private key and certificate in PEM, mode
	// 0600. It is made once and never written again. Somebody who has an
	// authority already may put its key and certificate there instead.
	RootFile = "root.pem"
	// CertificateFile holds the certificate alone, for other programs to
	// read. It is written again whenever it differs from RootFile.
	CertificateFile = "root.crt"

	maxRootFile = 1 << 20
)

// Open returns the authority whose root is kept in dir, and makes the
// directory (mode 0700) and the root where there is none. Key and certificate
// are one file that appears under its name complete or not at all, so
// processes that start at the same moment end up with the same root.
//
// A root that can be read by others, cannot be parsed or has ended is an
// error that says what to do; it is never replaced silently, because every
// browser that trusts it would have to be told.
func Open(dir string, clock func() time.Time) (*Authority, error) {
	path := filepath.Join(dir, RootFile)
	raw, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(dir, path, clock()); err != nil {
			return nil, err
		}
		raw, err = read(path)
	}
	if err != nil {
		return nil, err
	}
	a, err := parse(raw, clock)
	if err != nil {
		return nil, fmt.Errorf("root certificate %s: %w; move the file away to have a new root made (browsers must then trust the new one)", path, err)
	}
	if err := a.publish(filepath.Join(dir, CertificateFile)); err != nil {
		return nil, err
	}
	return a, nil
}

// read returns the root file after looking at who else may read it.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("root certificate: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("root certificate %s: not a regular file; move it away", path)
	case info.Size() > maxRootFile:
		return nil, fmt.Errorf("root certificate %s: %d bytes, more than a key and its certificates take; move it away", path, info.Size())
	}
	// Windows has no such bits: Go reports 0666 there for every file.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("root certificate %s: mode %04o lets others read the private key: run chmod 600 %s, "+
			"or move the file away for a new root if somebody may have copied it", path, mode, path)
	}
	raw := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := raw.ReadFrom(f); err != nil {
		return nil, fmt.Errorf("root certificate %s: %w", path, err)
	}
	return raw.Bytes(), nil
}

// create makes a root and puts it at path unless somebody else was faster.
func create(dir, path string, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory for the root certificate: %w", err)
	}
	text, err := generate(now)
	if err != nil {
		return err
	}
	temporary, err := writeTemporary(dir, text, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	// A link fails where the name exists, while a rename would replace it.
	if err := os.Link(temporary, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("root certificate: %w; choose a directory on a file system that has hard links", err)
	}
	return syncDirectory(dir)
}

// publish writes the certificate for others to read.
func (a *Authority) publish(path string) error {
	want := a.RootPEM()
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, want) {
		return nil
	}
	temporary, err := writeTemporary(filepath.Dir(path), want, 0o644)
	if err == nil {
		if err = os.Rename(temporary, path); err != nil {
			os.Remove(temporary)
		}
	}
	if err != nil {
		return fmt.Errorf("%w; make the directory writable, or put the certificate of %s into %s yourself", err, RootFile, path)
	}
	return nil
}

// writeTemporary writes a file that is on the disk before it gets its name.
func writeTemporary(dir string, text []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(dir, ".root-*")
	if err != nil {
		return "", fmt.Errorf("root certificate: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("root certificate: %w", err)
	}
	return f.Name(), nil
}

// syncDirectory makes a new name survive a crash, where the system can.
func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("directory of the root certificate: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("directory of the root certificate: %w", err)
	}
	return nil
}
