package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/archive"
)

func projectExportCommand() *cobra.Command {
	var secrets bool
	var recipients []string
	var phrase passphrase
	cmd := &cobra.Command{
		Use:   "export OUT.holdfast",
		Short: "Write a project into one file",
		Long: `Write a project into one file, which holdfast project import reads, on any
machine and into a file or PostgreSQL alike.

The archive has the history, not sealed. Without --with-secrets it has no
sessions, tokens or cookies, and credentials in the flows are asterisks: fields
such as Authorization and Cookie, parameters and members with names such as
password or token, and the same values wherever else they stand. Flows may
still say what their requests were about: names, addresses, contents of pages.
The manual ("Taking a project elsewhere") tells what is not taken out.

--with-secrets writes everything, and encrypts it with age. A serve may go on
meanwhile; what it writes after the start is not in the archive.`,
		Example: `  holdfast project export shop.holdfast --project shop
  holdfast project export shop.holdfast --with-secrets --recipient age1…
  holdfast project export shop.holdfast --with-secrets --passphrase`,
		Args: needs("a file to write", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := archive.WriteOptions{Secrets: secrets}
			var err error
			if o.Recipients, err = phrase.recipients(cmd, recipients); err != nil {
				return err
			}
			if secrets && len(o.Recipients) == 0 {
				return usageError{errors.New("an archive with secrets is encrypted: give --recipient age1…, --passphrase or --passphrase-file FILE")}
			}
			return exportProject(cmd, args[0], o)
		},
	}
	cmd.Flags().BoolVar(&secrets, "with-secrets", false, "sessions, tokens and cookies too, and flows as they are; the archive is encrypted")
	cmd.Flags().StringArrayVar(&recipients, "recipient", nil, "encrypt for the age `KEY` age1…; may be given more than once")
	phrase.add(cmd)
	return cmd
}

// exportProject writes a file that must not be there yet, whole or not at all.
func exportProject(cmd *cobra.Command, path string, o archive.WriteOptions) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already: name another file, or remove it", path)
	}
	s, err := openExisting(cmd)
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	progress := newProgressLine(cmd)
	o.Progress = func(doing string, done, of int64) { progress.tell("%s: %d of %d flows", doing, done, of) }
	w := bufio.NewWriterSize(f, 1<<20)
	counts, more, err := archive.Write(cmd.Context(), w, s, o)
	progress.end()
	if err == nil {
		err = w.Flush()
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // fails where there is one
	}
	if err != nil {
		return fmt.Errorf("nothing was exported: %w", err)
	}
	if more {
		fmt.Fprintln(cmd.ErrOrStderr(), "holdfast: there are more credentials than are looked for everywhere: some were taken out of their own places only")
	}
	what := "without credentials"
	if o.Secrets {
		what = fmt.Sprintf("with %d rows of sessions, tokens and cookies, encrypted", counts.State)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d flows, %s\n", path, counts.Flows, what)
	return nil
}

func projectImportCommand() *cobra.Command {
	var identity string
	var phrase passphrase
	var most int64
	cmd := &cobra.Command{
		Use:   "import IN.holdfast",
		Short: "Read such a file into a new project",
		Long: `Read a file that holdfast project export wrote into a new project, or into one
that is empty: --project NAME, --store FILE or --store postgres://…. It is
sealed with the key of this home directory. The project has all of it, or, after
an error or when this is ended, nothing. Flows get new ids.`,
		Example: `  holdfast project import shop.holdfast --project shop
  holdfast project import shop.holdfast --project shop --identity key.txt
  holdfast project import shop.holdfast --store postgres://user@db/holdfast`,
		Args: needs("a file to read", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if most <= 0 {
				return usageError{errors.New("--max-size: write a number of GiB above 0")}
			}
			o := archive.ReadOptions{MaxSize: most << 30}
			var err error
			if o.Identities, err = phrase.identities(cmd, identity); err != nil {
				return err
			}
			return importProject(cmd, args[0], o)
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", "`FILE` with the age key that can decrypt it (AGE-SECRET-KEY-…)")
	cmd.Flags().Int64Var(&most, "max-size", archive.DefaultMaxSize>>30, "refuse archives that come to more than so many `GiB`")
	phrase.add(cmd)
	return cmd
}

func importProject(cmd *cobra.Command, path string, o archive.ReadOptions) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	dsn, _, err := projectPlace(cmd)
	if err != nil {
		return err
	}
	_, statErr := os.Stat(dsn)
	made := !store.IsPostgres(dsn) && errors.Is(statErr, fs.ErrNotExist)
	s, err := openProject(cmd)
	if err != nil {
		return err
	}
	progress := newProgressLine(cmd)
	o.Progress = func(done int64) { progress.tell("reading: %d flows", done) }
	counts, err := archive.Read(cmd.Context(), f, s, o)
	progress.end()
	err = errors.Join(err, s.Close())
	if err != nil && made {
		err = errors.Join(err, store.Delete(context.WithoutCancel(cmd.Context()), dsn))
	}
	if errors.Is(err, store.ErrNotEmpty) {
		return fmt.Errorf("%s: %w: an archive makes a new project; name another with --project", dsnShown(dsn), err)
	}
	if err != nil {
		return fmt.Errorf("%s: nothing was imported: %w", path, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d flows and %d rows of sessions, tokens and cookies are in the project\n", counts.Flows, counts.State)
	return nil
}

// openExisting opens the project that the flags name, where there is one.
func openExisting(cmd *cobra.Command) (*store.Store, error) {
	dsn, _, err := projectPlace(cmd)
	if err != nil {
		return nil, err
	}
	if !store.IsPostgres(dsn) {
		if _, err := os.Stat(dsn); err != nil {
			return nil, fmt.Errorf("there is no such project (%w): holdfast project list tells which there are", err)
		}
	}
	return openProject(cmd)
}

// maxKeyFile bounds a file with a passphrase or keys, in bytes.
const maxKeyFile = 1 << 20

// passphrase says where a passphrase comes from.
type passphrase struct {
	ask  bool
	file string
}

func (p *passphrase) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.ask, "passphrase", false, "ask for the passphrase of the archive on the terminal")
	cmd.Flags().StringVar(&p.file, "passphrase-file", "", "`FILE` whose first line is the passphrase of the archive")
}

// get is the passphrase, "" where none is wanted.
func (p *passphrase) get(cmd *cobra.Command, twice bool) (string, error) {
	switch {
	case p.ask && p.file != "":
		return "", usageError{errors.New("--passphrase asks, and --passphrase-file reads: give one of them")}
	case p.file != "":
		raw, err := readKeyFile(p.file)
		text, _, _ := strings.Cut(raw, "\n")
		if text = strings.TrimSuffix(text, "\r"); err == nil && text == "" {
			err = fmt.Errorf("%s: the first line, the passphrase, is empty", p.file)
		}
		return text, err
	case !p.ask:
		return "", nil
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", usageError{errors.New("there is no terminal to ask for a passphrase: give --passphrase-file FILE")}
	}
	text, err := readPassphrase(cmd, in, "Passphrase: ")
	if err != nil || !twice {
		return text, err
	}
	again, err := readPassphrase(cmd, in, "Once more: ")
	if err == nil && again != text {
		err = errors.New("the passphrases are not the same")
	}
	return text, err
}

// readPassphrase reads a line that is not shown, until the command is ended.
func readPassphrase(cmd *cobra.Command, in *os.File, prompt string) (string, error) {
	state, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", err
	}
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	defer fmt.Fprintln(cmd.ErrOrStderr())
	type typed struct {
		text []byte
		err  error
	}
	got := make(chan typed, 1) // nobody waits for a line that comes late
	go func() {
		text, err := term.ReadPassword(int(in.Fd()))
		got <- typed{text, err}
	}()
	select {
	case t := <-got:
		if t.err == nil && len(t.text) == 0 {
			t.err = errors.New("the passphrase is empty")
		}
		return string(t.text), t.err
	case <-cmd.Context().Done():
		return "", errors.Join(cmd.Context().Err(), term.Restore(int(in.Fd()), state))
	}
}

func readKeyFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return string(raw), err
}

// recipients are who can read what is written: keys, or who knows the
// passphrase. None: anybody.
func (p *passphrase) recipients(cmd *cobra.Command, keys []string) (all []age.Recipient, err error) {
	for _, key := range keys {
		some, err := age.ParseRecipients(strings.NewReader(key))
		if err != nil {
			return nil, usageError{fmt.Errorf("--recipient %.80q is no public key of age: write age1…, as age-keygen prints it", key)}
		}
		all = append(all, some...)
	}
	text, err := p.get(cmd, true)
	if err != nil || text == "" {
		return all, err
	}
	if len(all) > 0 {
		return nil, usageError{errors.New("an archive is for --recipient or has a passphrase: give one of them")}
	}
	r, err := age.NewScryptRecipient(text)
	return []age.Recipient{r}, err
}

func (p *passphrase) identities(cmd *cobra.Command, path string) (all []age.Identity, err error) {
	if path != "" {
		raw, err := readKeyFile(path)
		if err != nil {
			return nil, err
		}
		if all, err = age.ParseIdentities(strings.NewReader(raw)); err != nil { // it may quote the key
			return nil, fmt.Errorf("%s has no key of age: name the file that age-keygen wrote", path)
		}
	}
	text, err := p.get(cmd, false)
	if err != nil || text == "" {
		return all, err
	}
	i, err := age.NewScryptIdentity(text)
	return append(all, i), err
}

// progressLine shows on a terminal how far something is.
type progressLine struct {
	out   io.Writer // nil: there is no terminal
	last  time.Time
	shown bool
}

func newProgressLine(cmd *cobra.Command) *progressLine {
	f, ok := cmd.ErrOrStderr().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progressLine{}
	}
	return &progressLine{out: f}
}

func (p *progressLine) tell(format string, args ...any) {
	if now := time.Now(); p.out != nil && now.Sub(p.last) > 100*time.Millisecond {
		p.last, p.shown = now, true
		fmt.Fprintf(p.out, "\r\x1b[K"+format, args...)
	}
}

func (p *progressLine) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
