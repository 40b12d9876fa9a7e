//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// cluster is a PostgreSQL server of our own, in a temporary directory.
type cluster struct {
	bin, dir, port string
	as             *syscall.Credential // nil: ourselves
}

// startCluster makes a server and starts it. The caller stops it. It does not run
// as root, so there it belongs to the user postgres.
func startCluster(ctx context.Context) (*cluster, error) {
	c := &cluster{}
	if path, err := exec.LookPath("initdb"); err == nil {
		c.bin = filepath.Dir(path)
	} else {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		if len(found) == 0 {
			return nil, fmt.Errorf("PostgreSQL: %w; install its server, or give --store", err)
		}
		c.bin = filepath.Dir(slices.Max(found))
	}
	var err error
	var release func()
	if c.port, release, err = reservePort(); err != nil {
		return nil, err
	}
	defer release() // it listens by then, or has failed
	if c.dir, err = os.MkdirTemp("", "holdfast-bench-pg-"); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		if err := c.become("postgres"); err != nil {
			c.stop()
			return nil, err
		}
	}
	err = c.run(ctx, "initdb", "-D", c.data(), "-A", "trust", "-U", "postgres", "--no-sync")
	if err == nil {
		err = c.run(ctx, "pg_ctl", "-D", c.data(), "-w", "-l", filepath.Join(c.dir, "log"),
			"-o", "-p "+c.port+" -k "+c.dir+" -c listen_addresses=127.0.0.1", "start")
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) become(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	c.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(c.dir, int(uid), int(gid))
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) dsn() string {
	return "postgres://postgres@127.0.0.1:" + c.port + "/postgres?sslmode=disable"
}

func (c *cluster) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as}
	out, err := os.Create(filepath.Join(os.TempDir(), filepath.Base(c.dir)+".out")) // a server inherits it, so it is no pipe
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %w: %s", program, err, tail(said))
	}
	return nil
}

// restart ends all connections, and accepts new ones when it returns.
func (c *cluster) restart(ctx context.Context) error {
	return c.run(ctx, "pg_ctl", "-D", c.data(), "-w", "-m", "fast", "restart")
}

// stop ends the server and removes what it kept.
func (c *cluster) stop() {
	_ = c.run(context.Background(), "pg_ctl", "-D", c.data(), "-w", "-m", "immediate", "stop") // it may not run
	os.RemoveAll(c.dir)
}
