package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// claimSuffix ends the name of the file beside a SQLite project that whoever
// keeps sessions in it holds a lock on. It stays there, since a file that is
// removed could be locked by one process and made again by another.
const claimSuffix = "-claim"

// maxClaim bounds what is read of such a file, in bytes.
const maxClaim = 4 << 10

// Claimant says who has claimed a project.
type Claimant struct {
	What   string    `json:"what"` // the command
	PID    int       `json:"pid"`
	Places []string  `json:"places,omitempty"` // that it listens at
	Began  time.Time `json:"began"`
}

func (c Claimant) String() string {
	if c.PID == 0 {
		return "another process" // which has the lock, and has not said who it is yet
	}
	text := fmt.Sprintf("%s (process %d", c.What, c.PID)
	if len(c.Places) > 0 {
		text += ", at " + strings.Join(c.Places, ", ")
	}
	return text + ")"
}

// Claimed is the error of [NewClaim] where another process has the project.
type Claimed struct {
	Path string
	By   Claimant
}

func (c *Claimed) Error() string { return fmt.Sprintf("%s is kept by %s", c.Path, c.By) }

// Claim is a process's word that it, and no other, logs in for the sessions of a
// SQLite project: processes on one file do not elect who does, as the nodes of a
// PostgreSQL project do. It is a lock of the system's, which ends with the
// process, however that ends. It keeps nobody from opening the project.
type Claim struct {
	file *os.File // nil: a project that is shared, of which there is none
	who  Claimant
}

// NewClaim claims the project of a DSN. It does not wait: the error is a
// [*Claimed] where another process has it. Several nodes may have a PostgreSQL
// project. The caller closes it.
func NewClaim(dsn, what string) (*Claim, error) {
	c := &Claim{who: Claimant{What: what, PID: os.Getpid(), Began: time.Now().UTC()}}
	if IsPostgres(dsn) {
		return c, nil
	}
	if err := os.MkdirAll(filepath.Dir(dsn), 0o700); err != nil {
		return nil, advise(err)
	}
	path := dsn
	if real, err := filepath.EvalSymlinks(dsn); err == nil { // by whichever name
		path = real
	}
	f, err := os.OpenFile(path+claimSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, advise(err)
	}
	ours, err := tryLock(f)
	if err == nil && !ours {
		claimed := &Claimed{Path: dsn}
		if raw, err := io.ReadAll(io.LimitReader(f, maxClaim)); err == nil {
			_ = json.Unmarshal(raw, &claimed.By) // else it is being written
		}
		err = claimed
		f.Close()
		return nil, err
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s cannot be locked: %w", f.Name(), err)
	}
	c.file = f
	if err := c.say(); err != nil {
		c.Close()
		return nil, advise(err)
	}
	return c, nil
}

// Say tells others where this process listens.
func (c *Claim) Say(places []string) error {
	if c.file == nil {
		return nil
	}
	c.who.Places = nil
	for _, p := range places {
		c.who.Places = append(c.who.Places, strings.Join(strings.Fields(p), " "))
	}
	return c.say()
}

func (c *Claim) say() error {
	raw, err := json.Marshal(c.who)
	if err != nil {
		return err
	}
	if err := c.file.Truncate(0); err != nil {
		return err
	}
	if _, err = c.file.WriteAt(append(raw, '\n'), 0); errors.Is(err, syscall.ENOSPC) {
		return nil // the lock holds all the same, and the project itself may have room
	}
	return err
}

// Close gives the project back. Closing a nil Claim does nothing.
func (c *Claim) Close() error {
	if c == nil || c.file == nil {
		return nil
	}
	err := c.file.Truncate(0)
	return errors.Join(err, c.file.Close())
}
