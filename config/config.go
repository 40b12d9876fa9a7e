package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/script"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Defaults of what a file leaves out.
const (
	DefaultLockoutFailures = 3
	DefaultLockoutWindow   = 15 * time.Minute
	DefaultResendBody      = 64 << 20  // bytes
	DefaultMemoryBody      = 1 << 20   // bytes
	DefaultEditedBody      = 1 << 20   // bytes
	DefaultJudgedBody      = 1 << 20   // bytes
	DefaultMemory          = 256 << 20 // bytes
	DefaultDisk            = 8 << 30   // bytes
	DefaultConnections     = 20000
	DefaultLargeHeads      = 32
	DefaultBrowsers        = 4
	DefaultHold            = 5 * time.Second
	DefaultWait            = time.Minute
	DefaultUnreachable     = 20 * time.Second
)

// File is a configuration file, checked and compiled. It is never changed
// after Parse returned it; any goroutine may read it.
type File struct {
	Name       string              // as given to Load or Parse
	Variables  map[string]string   // global ones, references replaced
	Identities map[string]Identity // by name; empty when the file names none
	Order      []string            // the names of Identities as the file has them
	Macros     []*macro.Macro      // in the order of the file
	Rules      []rule.Rule         // in the order of the file, disabled ones too
	Set        *rule.Set           // Rules compiled: the enabled ones in the order they act
	// AutoExtract and AutoInject switch the taking and the putting in of tokens
	// for all rules (seed: auto_extract, auto_inject). Both default to true.
	AutoExtract bool
	AutoInject  bool
	Lockout     Lockout
	Limits      Limits
	History     History
	CookieJar   CookieJar
	// Credentials are the headers that are taken out of anonymous requests;
	// nil when the file names none.
	Credentials []string
	Ways        Ways // out
	// Framing is what to do with messages whose framing is ambiguous.
	Framing wire.Policy
	// The ways in. Flags of the command line go before Listen and
	// ProxyPassword, and add to PassThrough.
	Listen          []Listener
	ProxyPassword   string // "" asks for none
	PassThrough     flow.HostPatterns
	AutoPassThrough bool // defaults to true
	Browser         Program
	// Sources are the files that it names and that were read, as they are opened:
	// relative names are of the configuration's directory.
	Sources []string

	source  []byte // without what lies over it
	root    *yaml.Node
	options Options
	over    map[string]bool // entries that lie over it, by kind and name
	uses    []machineUse    // of this machine
}

// Program is what logins in a browser are made with.
type Program struct {
	Path   string // "" is the first that is found
	AtOnce int    // how many run at a time
}

// Listener is one place to listen at.
type Listener struct {
	Address  string // host:port
	Tool     string // "" is that of the command line
	Identity string // "" likewise
	Kind     string // forward, reverse or invisible
	TLS      bool   // nothing else is taken
	Origin   flow.Origin
	KeepHost bool
}

// Identity is someone we can be logged in as.
type Identity struct {
	Variables map[string]string // they win over global ones of the same name
	Cookies   []jar.Cookie      // what its jar begins with
	Pool      Pool
	TOTP      *macro.TOTP // its one-time codes; nil when the file has none
	Auth      []HostAuth  // the first that covers a host counts there
}

// Lockout says after how many failed logins within which time nobody tries
// again until a person unlocks the session.
type Lockout struct {
	Failures int
	Window   time.Duration
}

// Limits are what is kept and waited for at most.
type Limits struct {
	ResendBody  int64         // bytes of a request's body kept for sending it again
	MemoryBody  int64         // bytes of it that stay in memory; the rest is in a temporary file
	EditedBody  int64         // bytes of a request's body that tokens can be put into
	JudgedBody  int64         // bytes of a response's body that a check or a source can look at
	Hold        time.Duration // how long a response is held back for a check of its body
	Wait        time.Duration // how long a request waits for a recovery
	Unreachable time.Duration // how long a recovery tries again while the origin refuses connections
	Memory      int64         // bytes of all bodies that are held in memory
	Disk        int64         // bytes of all request bodies in temporary files
	Connections int           // of clients at a time
	Script      script.Limits // of scripts that name none; what is zero is script.DefaultLimits
	LargeHeads  int           // of more than 64 KiB at a time: of requests, and as many of answers
}

// Options is what a file's ${env:…} and ${file:…} are read with. Its zero
// value uses the process's environment and the file system.
type Options struct {
	Env      func(name string) (value string, ok bool)
	ReadFile func(path string) ([]byte, error) // may return more than MaxFileSize bytes; they are refused
	// Only has the programs, files and variables of the environment be used which
	// that file uses, for the same: others are mistakes, found before anything is
	// opened. nil: all.
	Only *File
}

func (o Options) env(name string) (string, bool) {
	if o.Env == nil {
		return os.LookupEnv(name)
	}
	return o.Env(name)
}

func (o Options) readFile(path string) ([]byte, error) {
	if o.ReadFile != nil {
		return o.ReadFile(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFileSize+1))
}

// Load reads and compiles the configuration file at path. A file with mistakes
// gives an error of type [Errors]; the warnings are valid with and without an
// error.
func Load(path string, o Options) (*File, Warnings, error) {
	src, err := o.readFile(path)
	if err != nil {
		return nil, nil, Errors{{File: path, What: "the configuration cannot be read: " + cause(err),
			Next: "give the path of a YAML or JSON file; docs/configuration.md describes it"}}
	}
	return Parse(path, src, o)
}

// Parse compiles a configuration that was read already. name is the path of
// the file: it stands in messages, and ${file:…} is relative to its directory.
func Parse(name string, src []byte, o Options) (*File, Warnings, error) {
	t := newText(name, src)
	root, problems := parseTree(t, src)
	if len(problems) > 0 {
		return nil, nil, Errors(sorted(problems))
	}
	if root == nil || isNull(root) {
		return nil, nil, Errors{{File: name, What: "the file is empty", Next: "add rules: and macros:; docs/configuration.md describes them"}}
	}
	file, warnings, err := compileTree(name, t, root, o)
	if err == nil {
		file.source = bytes.Clone(src)
	}
	return file, warnings, err
}

// compileTree compiles what was read as YAML.
func compileTree(name string, t *text, root *yaml.Node, o Options) (*File, Warnings, error) {
	d := &decoder{text: t, options: o}
	draft := fileDraft{
		autoExtract: true, autoInject: true, autoPass: true,
		program: Program{AtOnce: DefaultBrowsers},
		history: newHistoryDraft(),
		lockout: Lockout{Failures: DefaultLockoutFailures, Window: DefaultLockoutWindow},
		limits: Limits{ResendBody: DefaultResendBody, MemoryBody: DefaultMemoryBody, EditedBody: DefaultEditedBody, JudgedBody: DefaultJudgedBody,
			Hold: DefaultHold, Wait: DefaultWait, Unreachable: DefaultUnreachable,
			Memory: DefaultMemory, Disk: DefaultDisk, Connections: DefaultConnections, LargeHeads: DefaultLargeHeads},
	}
	object(d, root, tableFile, fileFields(), &draft)
	file := d.compile(name, &draft)
	warnings := Warnings(sorted(d.warnings))
	if len(d.problems) > 0 {
		return nil, warnings, Errors(sorted(d.problems))
	}
	file.root, file.options, file.uses = root, o, d.uses
	return file, warnings, nil
}

// String is the name of the file and how much is in it; never a secret.
func (f *File) String() string {
	return fmt.Sprintf("%s: %s, %s, %s", f.Name, count(len(f.Rules), "rule", "rules"), count(len(f.Macros), "macro", "macros"), count(len(f.Identities), "identity", "identities"))
}

func count(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}
