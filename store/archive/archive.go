package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-proxy/holdfast/store"
)

const (
	format  = "holdfast-project"
	version = 1

	maxSmall = 1 << 20   // bytes of the manifest and the end
	maxRow   = 64 << 20  // bytes of a row
	maxFlow  = 512 << 20 // bytes of a flow; of a larger one the bodies are left out
	page     = 8         // flows that are read at once

	// DefaultMaxSize bounds what an archive may come to, uncompressed, in bytes.
	DefaultMaxSize = 64 << 30

	sniff = "age-encryption.org/v1\n"
)

// Errors of [Read]; each says the next step.
var (
	ErrForeign   = errors.New("it is no archive of Holdfast: name a file that holdfast project export wrote")
	ErrNewer     = errors.New("the archive is of a newer version: use a newer Holdfast")
	ErrDamaged   = errors.New("the archive is damaged or not whole: copy or export it again")
	ErrEncrypted = errors.New("the archive is encrypted: give --identity with the file of the age key, or --passphrase or --passphrase-file")
	ErrNoKey     = errors.New("the archive cannot be decrypted with this: give the identity or the passphrase that it was made for")
	ErrTooLarge  = errors.New("the archive comes to more than is allowed: if you trust it, allow more with --max-size")
)

// manifest is the first entry.
type manifest struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Secrets bool   `json:"secrets"`
}

// Counts are how much was written or read.
type Counts struct {
	Flows int64 `json:"flows"`
	State int64 `json:"state"`
}

// row is a row as it stands in an archive.
type row struct {
	Kind    string `json:"kind"`
	Owner   string `json:"owner"`
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	Value   []byte `json:"value"`
}

// WriteOptions are how a project is written.
type WriteOptions struct {
	// Secrets has the archive hold everything. Recipients, at least one, are
	// then who can read it; without Secrets there may be some.
	Secrets    bool
	Recipients []age.Recipient
	// Progress is told how many flows of how many are done, each page; nil:
	// nobody is.
	Progress func(doing string, done, of int64)
}

// Write writes what the project has at the moment. more says that there were
// more credentials than are looked for in all places: those beyond are taken out
// of their own places only.
func Write(ctx context.Context, w io.Writer, s *store.Store, o WriteOptions) (c Counts, more bool, err error) {
	if o.Secrets && len(o.Recipients) == 0 {
		return c, false, errors.New("an archive with secrets must be encrypted")
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	has, err := s.Figures(ctx)
	if err != nil {
		return c, false, err
	}
	var h *hider
	if !o.Secrets {
		if h, err = collect(ctx, s, has, o.Progress); err != nil {
			return c, false, err
		}
		more = h.more
	}
	out := w
	var sealed io.WriteCloser
	if len(o.Recipients) > 0 {
		if sealed, err = age.Encrypt(w, o.Recipients...); err != nil {
			return c, more, err
		}
		out = sealed
	}
	zip := gzip.NewWriter(out)
	t := tar.NewWriter(zip)
	if err := putJSON(t, "manifest.json", manifest{format, version, o.Secrets}); err != nil {
		return c, more, err
	}
	err = each(ctx, s, has.Last, func(f *store.Stored) error {
		c.Flows++
		o.Progress("writing", c.Flows, has.Flows)
		return put(t, "flows/"+strconv.FormatInt(c.Flows, 10), encode(f, h))
	})
	if err == nil && o.Secrets {
		err = putState(ctx, t, s, &c)
	}
	if err == nil {
		err = putJSON(t, "end.json", c)
	}
	for _, end := range []io.Closer{t, zip, sealed} {
		if end != nil && err == nil {
			err = end.Close()
		}
	}
	return c, more, err
}

func encode(f *store.Stored, h *hider) []byte {
	var hide store.Hider
	if h != nil {
		hide = h
	}
	raw := f.Encode(hide)
	if len(raw) > maxFlow {
		for _, b := range []*store.Body{f.Received, f.Sent, f.Response} {
			if b != nil {
				b.Raw, b.Cut = nil, true
			}
		}
		for i := range f.Flow.Earlier {
			f.Flow.Earlier[i].Body = nil
		}
		raw = f.Encode(hide)
	}
	return raw
}

// collect reads all flows once for the credentials in them.
func collect(ctx context.Context, s *store.Store, has store.Figures, progress func(string, int64, int64)) (*hider, error) {
	h := newHider()
	rows, err := s.LoadAll(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		h.row(r.Value)
	}
	var n int64
	err = each(ctx, s, has.Last, func(f *store.Stored) error {
		n++
		progress("looking for credentials", n, has.Flows)
		h.host = f.Flow.Origin.Host
		f.Encode(h)
		return nil
	})
	h.ready()
	return h, err
}

// each reads the flows up to an id, the oldest first.
func each(ctx context.Context, s *store.Store, last int64, do func(*store.Stored) error) error {
	for from := int64(0); from <= last; {
		all, err := s.Flows(ctx, from, page, false)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, f := range all {
			if f.ID > last {
				return nil
			}
			if err := do(f); err != nil {
				return err
			}
			from = f.ID + 1
		}
	}
	return nil
}

func putState(ctx context.Context, t *tar.Writer, s *store.Store, c *Counts) error {
	rows, err := s.LoadAll(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		c.State++
		if err := putJSON(t, "state/"+strconv.FormatInt(c.State, 10), row{r.Kind, r.Owner, r.Name, r.Version, r.Value}); err != nil {
			return err
		}
	}
	return nil
}

func put(t *tar.Writer, name string, raw []byte) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(raw)), Mode: 0o600}); err != nil {
		return err
	}
	_, err := t.Write(raw)
	return err
}

func putJSON(t *tar.Writer, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return put(t, name, raw)
}

// ReadOptions are how an archive is read.
type ReadOptions struct {
	// Identities can decrypt it; none: it is not encrypted.
	Identities []age.Identity
	// MaxSize is how many bytes it may come to, uncompressed; 0 is
	// DefaultMaxSize.
	MaxSize int64
	// Progress is told how many flows are done; nil: nobody is.
	Progress func(done int64)
}

// Read reads an archive into an empty project: all of it, or, with an error,
// nothing.
func Read(ctx context.Context, r io.Reader, s *store.Store, o ReadOptions) (c Counts, err error) {
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	in := bufio.NewReaderSize(r, 64<<10)
	if begin, _ := in.Peek(len(sniff)); string(begin) == sniff {
		if len(o.Identities) == 0 {
			return c, ErrEncrypted
		}
		plain, err := age.Decrypt(in, o.Identities...)
		if err != nil {
			return c, fmt.Errorf("%w (%w)", ErrNoKey, err)
		}
		in = bufio.NewReader(plain)
	}
	if begin, _ := in.Peek(2); string(begin) != "\x1f\x8b" {
		return c, ErrForeign
	}
	zip, err := gzip.NewReader(in)
	if err != nil {
		return c, fmt.Errorf("%w (%w)", ErrForeign, err)
	}
	zip.Multistream(false)
	x := &reader{bounded: &bounded{zip, o.MaxSize}}
	x.tar = tar.NewReader(x.bounded)
	if err := x.begin(); err != nil {
		return c, err
	}
	err = s.Import(ctx, func(im *store.Import) error { return x.all(ctx, im, o.Progress) })
	return x.counts, err
}

// bounded fails with ErrTooLarge behind so many bytes.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// reader is an archive that is read.
type reader struct {
	bounded *bounded
	tar     *tar.Reader
	secrets bool
	counts  Counts
}

// next is the next entry.
func (x *reader) next() (name string, raw []byte, err error) {
	head, err := x.tar.Next()
	if err != nil {
		return "", nil, damaged(err)
	}
	most := int64(maxSmall)
	switch kind, _, _ := strings.Cut(head.Name, "/"); kind {
	case "flows":
		most = maxFlow
	case "state":
		most = maxRow
	}
	if head.Typeflag != tar.TypeReg || head.Size > most {
		return "", nil, fmt.Errorf("%w (%.40q is no entry of it)", ErrDamaged, head.Name)
	}
	var b bytes.Buffer // grows with what is really there
	if _, err := io.Copy(&b, x.tar); err != nil {
		return "", nil, damaged(err)
	}
	return head.Name, b.Bytes(), nil
}

func damaged(err error) error {
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	return fmt.Errorf("%w (%w)", ErrDamaged, err)
}

// begin reads the manifest.
func (x *reader) begin() error {
	name, raw, err := x.next()
	if err != nil && name == "" && errors.Is(err, tar.ErrHeader) {
		return ErrForeign
	}
	if err != nil {
		return err
	}
	var m manifest
	if name != "manifest.json" || json.Unmarshal(raw, &m) != nil || m.Format != format {
		return ErrForeign
	}
	if m.Version > version {
		return fmt.Errorf("%w (it is of version %d, this one knows %d)", ErrNewer, m.Version, version)
	}
	x.secrets = m.Secrets
	return nil
}

// all reads what stands behind the manifest, up to the very end: a checksum
// stands there.
func (x *reader) all(ctx context.Context, im *store.Import, progress func(int64)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		name, raw, err := x.next()
		if err != nil {
			return err
		}
		switch kind, _, _ := strings.Cut(name, "/"); {
		case kind == "flows":
			f, err := store.DecodeStored(raw)
			if err != nil {
				return damaged(err)
			}
			if err := im.Flow(f); err != nil {
				return err
			}
			x.counts.Flows++
			progress(x.counts.Flows)
		case kind == "state" && x.secrets:
			var r row
			if err := json.Unmarshal(raw, &r); err != nil || len(r.Value) == 0 {
				return ErrDamaged
			}
			if err := im.State(store.Row{Kind: r.Kind, Owner: r.Owner, Name: r.Name, Version: r.Version, Value: r.Value}); err != nil {
				return err
			}
			x.counts.State++
		case name == "end.json":
			var c Counts
			if json.Unmarshal(raw, &c) != nil || c != x.counts {
				return ErrDamaged
			}
			if _, err := x.tar.Next(); err != io.EOF {
				return ErrDamaged
			}
			if _, err := io.Copy(io.Discard, x.bounded); err != nil {
				return damaged(err)
			}
			return nil
		default:
			return fmt.Errorf("%w (%.40q is no entry of it)", ErrDamaged, name)
		}
	}
}
