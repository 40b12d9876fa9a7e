package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
)

// DefaultAtOnce is how many browsers run at a time.
const DefaultAtOnce = 4

// Config says which browser is used and how. Its zero value works.
type Config struct {
	Path   string // of the program; "" looks for the names of Programs
	AtOnce int    // browsers at a time; DefaultAtOnce when zero
	SPKI   string // Base64 of the SHA-256 of the authority's public key; "" trusts none
	Home   string // where pictures of failed logins go
	// Hidden opens no window where a person is to see one, for machines without
	// a display; Attend stands in for the person: it is called with the
	// chromedp context of the page that tells what is wanted, in a goroutine
	// that Login waits for. Both are for tests.
	Hidden bool
	Attend func(ctx context.Context)
}

// Programs are the names under which a browser is looked for, in order.
func Programs() []string {
	return []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "brave-browser", "headless-shell",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium", "/snap/bin/chromium"}
}

// Find returns the program that path names, or the first of Programs. The error
// says what to do.
func Find(path string) (string, error) {
	names := Programs()
	if path != "" {
		names = []string{path}
	}
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	if path != "" {
		return "", fmt.Errorf("there is no browser at %s; correct browser.path", path)
	}
	return "", fmt.Errorf("there is no browser: none of %s is in PATH; install Chromium, or name one: browser: {path: …}", strings.Join(names[:5], ", "))
}

// HasDisplay reports whether a window can be opened, as far as the environment
// tells. Where it does not tell, it can.
func HasDisplay() bool {
	return runtime.GOOS != "linux" || os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}

// noDisplay is what to do without.
const noDisplay = "no display (DISPLAY and WAYLAND_DISPLAY are empty): start Holdfast where a person sits"

// Login is a login to make, and who takes what it brings. Its functions are
// called from the goroutine of Runner.Login.
type Login struct {
	Name     string         // of the login in the configuration; may be empty
	How      *macro.Browser // never nil
	Identity string
	Rules    []string // that want the session
	URL      string   // where it begins, where How says nothing
	Proxy    string   // host:port
	// Lookup gives the value of a variable, and Code a one-time code for
	// {{totp}}; nil where there is none.
	Lookup func(name string) (string, bool)
	Code   func(ctx context.Context) (string, error)
	// Has reports whether a token was seen on the wire; Lacks lists those that
	// are wanted and were not. Nil: there are none.
	Has       func(token string) bool
	Lacks     func() []string
	Put       func(token, value string)
	PutCookie func(jar.Cookie) error
	Tell      func(format string, args ...any) // what is done, without secrets
}

// Runner makes logins. Any goroutine may call its methods.
type Runner struct {
	config Config
	slots  chan struct{}

	mu         sync.Mutex // guards identities
	identities map[string]chan struct{}
}

// New makes a Runner. It starts nothing.
func New(c Config) *Runner {
	if c.AtOnce <= 0 {
		c.AtOnce = DefaultAtOnce
	}
	return &Runner{config: c, slots: make(chan struct{}, c.AtOnce), identities: make(map[string]chan struct{})}
}

// turn waits until an identity's browser, and one of all, may start.
func (r *Runner) turn(ctx context.Context, identity string) (end func(), err error) {
	r.mu.Lock()
	own := r.identities[identity]
	if own == nil {
		own = make(chan struct{}, 1)
		r.identities[identity] = own
	}
	r.mu.Unlock()
	select {
	case own <- struct{}{}:
	case <-ctx.Done():
		return nil, errors.New("another browser of the identity was open all the time")
	}
	select {
	case r.slots <- struct{}{}:
		return func() { <-r.slots; <-own }, nil
	case <-ctx.Done():
		<-own
		return nil, fmt.Errorf("%d other browsers were open all the time (browser.at_once)", r.config.AtOnce)
	}
}

// missing are the variables of the login that have no value.
func (l *Login) missing() []string {
	return slices.DeleteFunc(l.How.Names(), func(name string) bool {
		_, ok := l.Lookup(name)
		return ok || name == macro.NameTOTP && l.Code != nil
	})
}

// startTimeout is how long a browser takes to start.
const startTimeout = time.Minute

// Login makes one login. It returns when somebody is logged in and all is handed
// over, or with a *macro.StepError. l.How.Timeout begins when the browser has
// started; ctx ends it at once.
func (r *Runner) Login(ctx context.Context, l *Login) error {
	fail := func(kind macro.Kind, want, got string) error {
		return &macro.StepError{Macro: l.Name, Kind: kind, Want: want, Got: got, Cause: ctx.Err()}
	}
	if missing := l.missing(); len(missing) > 0 {
		return fail(macro.MissingVariable, "values for the variables of its steps", "none for "+strings.Join(missing, ", "))
	}
	path, err := Find(r.config.Path)
	if err != nil {
		return fail(macro.Malformed, "a browser", err.Error())
	}
	end, err := r.turn(ctx, l.Identity)
	if err != nil {
		return fail(macro.Unexpected, "a turn", err.Error())
	}
	defer end()

	// The browser outlives the deadline a little: for the page's address, and
	// its picture.
	all, cancelAll := chromedp.NewExecAllocator(context.WithoutCancel(ctx), r.options(path, l)...)
	defer cancelAll() // waits for the processes and removes the profile
	quiet := func(string, ...any) {}
	main, cancelMain := chromedp.NewContext(all, chromedp.WithErrorf(quiet), chromedp.WithLogf(quiet), chromedp.WithDebugf(quiet))
	defer cancelMain()
	starting, cancelStart := context.WithTimeout(ctx, startTimeout)
	defer cancelStart()
	stop := context.AfterFunc(starting, cancelMain)
	err = chromedp.Do(main)
	if !stop() {
		return fail(macro.Unexpected, "a browser", path+", which had not started in time")
	}
	if err != nil {
		if errors.Is(err, chromedp.ErrNoDisplay) {
			return fail(macro.Malformed, "a window", noDisplay+", or write headless: true")
		}
		return fail(macro.Malformed, "a browser", fmt.Sprintf("%s, which did not start: %v", path, err))
	}
	return r.tour(ctx, l, main)
}

// tour makes the login in a browser that has started.
func (r *Runner) tour(ctx context.Context, l *Login, main context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.How.Timeout)
	defer cancel()
	t := &tour{runner: r, login: l, main: main}
	t.life, t.end = context.WithCancel(main)
	defer t.close()
	err := t.run(ctx)
	if err == nil {
		err = t.take(ctx)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && lost(main, err) {
		if t.visible() {
			return &macro.StepError{Macro: l.Name, Kind: macro.Unanswered, Want: "a person's login", Got: "a window that was closed"}
		}
		return &macro.StepError{Macro: l.Name, Kind: macro.Unexpected, Want: "a login", Got: "the end of the browser"}
	}
	return t.explain(ctx, err)
}

// lostAfter is how much later than an error that it caused the end of a browser
// may be heard of.
const lostAfter = 10 * time.Second

// lost reports whether an error is that of a browser that has ended: it can come
// a little before the news of the end.
func lost(main context.Context, err error) bool {
	var step *macro.StepError
	if errors.As(err, &step) {
		return false
	}
	select {
	case <-main.Done():
		return true
	case <-time.After(lostAfter):
		return false
	}
}

// options are how the browser is started.
func (r *Runner) options(path string, l *Login) []chromedp.ExecAllocatorOption {
	o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true), chromedp.Flag("disable-features", "Translate,MediaRouter,OptimizationHints,AutofillServerCommunication,HttpsUpgrades,PasswordManagerOnboarding"),
		chromedp.Flag("proxy-server", "http://"+l.Proxy), chromedp.Flag("proxy-bypass-list", "<-loopback>"), // localhost goes through it too
		chromedp.WindowSize(1280, 900))
	if r.config.SPKI != "" {
		o = append(o, chromedp.Flag("ignore-certificate-errors-spki-list", r.config.SPKI))
	}
	if l.How.Visible && !r.config.Hidden {
		o = append(o, chromedp.VisibleWindow)
	}
	return o
}

// visible reports whether a person takes part.
func (t *tour) visible() bool { return t.login.How.Visible }

// explain makes an error of what went wrong in a page.
func (t *tour) explain(ctx context.Context, err error) error {
	var step *macro.StepError
	if !errors.As(err, &step) {
		step = &macro.StepError{Kind: macro.Unexpected, Want: "a login", Got: "an error of the browser", Cause: err}
	}
	step.Macro = t.login.Name
	if step.Cause == nil && ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		step.Cause = ctx.Err() // Holdfast is being stopped
	}
	t.login.Tell("failed: wanted %s, got %s", step.Want, step.Got)
	if t.login.How.Screenshot {
		t.screenshot()
	}
	return step
}

// poll is how often a page is asked.
const poll = 100 * time.Millisecond
