package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Limits of waiting for a proxy.
const (
	readyTimeout = 60 * time.Second // from start to the first accepted connection
	stopTimeout  = 5 * time.Second  // from SIGTERM to SIGKILL
	logTail      = 2000             // bytes of its output that an error shows
)

// A process is a proxy under test.
type process struct {
	spec   *proxySpec
	places places
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{}
}

// startProxy starts an entry of the table in a directory of its own and waits
// until it accepts connections. The caller stops it.
func startProxy(ctx context.Context, spec *proxySpec, pl places, pins pinning) (*process, error) {
	port, release, err := reservePort()
	if err != nil {
		return nil, err
	}
	defer release() // it listens by then, or has failed
	port2, release2, err := reservePort()
	if err != nil {
		return nil, err
	}
	defer release2()
	pl.port, pl.port2 = port, port2
	if pl.dir, err = os.MkdirTemp(pl.dir, spec.Name+"-"); err != nil {
		return nil, err
	}
	if err := spec.writeFiles(pl); err != nil {
		return nil, err
	}
	if len(spec.Prepare) > 0 {
		argv := pl.expandAll(spec.Prepare)
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, tail(out))
		}
	}
	argv := pl.expandAll(spec.Command)
	if _, err := exec.LookPath(argv[0]); err != nil {
		return nil, unable{err}
	}
	argv = pins.wrap(argv)
	p := &process{spec: spec, places: pl, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	if p.log, err = os.Create(filepath.Join(pl.dir, "output.log")); err != nil {
		return nil, err
	}
	p.cmd.Dir = pl.dir
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), pl.expandAll(spec.Env)...)
	if err := p.cmd.Start(); err != nil {
		p.log.Close()
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // how it ended does not matter; that it did, does
	}()
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// unable says that a proxy cannot take part, which is noted and no error: it
// is not installed, or does not speak HTTP/2.
type unable struct{ error }

// addr is where the proxy listens.
func (p *process) addr() string { return "127.0.0.1:" + p.places.port }

func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if c, err := net.DialTimeout("tcp", p.addr(), time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended at once: %s", p.output())
		case <-ctx.Done():
			return fmt.Errorf("it does not accept connections at %s: %w: %s", p.addr(), ctx.Err(), p.output())
		case <-poll.C:
		}
	}
}

// output is the end of what the proxy wrote.
func (p *process) output() string {
	b, err := os.ReadFile(p.log.Name())
	if err != nil {
		return ""
	}
	return tail(b)
}

func tail(b []byte) string {
	if len(b) > logTail {
		b = b[len(b)-logTail:]
	}
	return strings.TrimSpace(string(b))
}

// stop asks the proxy to end, then makes it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	p.log.Close()
	os.RemoveAll(p.places.dir)
}

// checkLeaf makes one tunnel and looks at the certificate in it: an
// intercepting proxy must show one of its own authority.
func (p *process) checkLeaf(t *target) error {
	if p.spec.CA == "" || p.spec.Splices {
		return nil
	}
	pool := x509.NewCertPool()
	file := p.places.expand(p.spec.CA)
	src, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("its CA certificate: %w", err)
	}
	if !pool.AppendCertsFromPEM(src) {
		return fmt.Errorf("its CA certificate: no certificate in %s", file)
	}
	conn, err := t.connect(t.tls, time.Now().Add(dialTimeout))
	if err != nil {
		return err
	}
	defer conn.Close()
	c := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, // names are not compared: squid has none for addresses
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
			return err
		},
	})
	if err := c.Handshake(); err != nil {
		return fmt.Errorf("the certificate it shows: %w", err)
	}
	return nil
}

// build compiles a Go package of this module, once per run of the harness.
func build(ctx context.Context, pkg, out string) error {
	b, err := exec.CommandContext(ctx, "go", "build", "-o", out, pkg).CombinedOutput()
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return unable{err}
	}
	return fmt.Errorf("go build %s: %w: %s", pkg, err, tail(b))
}
