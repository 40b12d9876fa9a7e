package config_test

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

var update = flag.Bool("update", false, "rewrite the .want files in testdata")

// TestGolden runs the pairs in testdata/*.txtar: NAME.yaml (or .json) and
// NAME.want, which is a summary of what was compiled, or the errors as they are
// printed. Every other file of an archive can be read by ${file:…}; the one
// called env holds the environment.
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in testdata: %v", err)
	}
	cases, refused := 0, 0
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files := make(map[string]string)
		for _, f := range archive.Files {
			if _, twice := files[f.Name]; twice {
				t.Errorf("%s: %s is there twice", path, f.Name)
			}
			files[f.Name] = string(f.Data)
		}
		var out []txtar.File
		for _, f := range archive.Files {
			ext := filepath.Ext(f.Name)
			if ext != ".want" {
				out = append(out, f)
			}
			if ext != ".yaml" && ext != ".json" {
				continue
			}
			cases++
			name := strings.TrimSuffix(f.Name, ext)
			got := outcome(f.Name, files)
			if strings.HasPrefix(got, "error") {
				refused++
			}
			out = append(out, txtar.File{Name: name + ".want", Data: []byte(got)})
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar")+"/"+name, func(t *testing.T) {
				if *update {
					return
				}
				want, ok := files[name+".want"]
				if !ok {
					t.Fatalf("%s has no %s.want; run the test with -update", path, name)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", f.Data, diff)
				}
			})
		}
		if *update {
			archive.Files = out
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cases < 60 || refused < 50 {
		t.Errorf("%d cases, %d of them refused: some are missing", cases, refused)
	}
}

// outcome is what the file compiles to, as text.
func outcome(name string, files map[string]string) string {
	file, warnings, err := config.Load(name, optionsFor(files))
	var b strings.Builder
	if errs, ok := err.(config.Errors); ok {
		fmt.Fprintf(&b, "errors: %d\n", len(errs))
		errs.Format(&b)
	} else if err != nil {
		fmt.Fprintf(&b, "not config.Errors: %v\n", err)
	}
	warnings.Format(&b)
	if err == nil {
		b.WriteString(summary(file))
	}
	return b.String()
}

func optionsFor(files map[string]string) config.Options {
	env := make(map[string]string)
	for line := range strings.Lines(files["env"]) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	return config.Options{
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			s, ok := files[path]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return []byte(s), nil
		},
	}
}

func summary(f *config.File) string {
	var b strings.Builder
	fmt.Fprintf(&b, "auto_extract %v, auto_inject %v, lockout %d in %s\n", f.AutoExtract, f.AutoInject, f.Lockout.Failures, f.Lockout.Window)
	fmt.Fprintf(&b, "limits: %s\n", strings.Replace(fmt.Sprintf("%+v", f.Limits), " Script:{Time:0s Memory:0 Log:0 Fetches:0 Depth:0}", "", 1))
	for _, l := range f.Listen {
		fmt.Fprintf(&b, "listen %+v\n", l)
	}
	if f.ProxyPassword != "" || len(f.PassThrough) > 0 || !f.AutoPassThrough {
		fmt.Fprintf(&b, "password %q, pass through %v, by itself %v\n", f.ProxyPassword, f.PassThrough, f.AutoPassThrough)
	}
	writeVariables(&b, "global", f.Variables)
	for _, name := range slices.Sorted(maps.Keys(f.Identities)) {
		writeVariables(&b, "identity "+name, f.Identities[name].Variables)
		if p := f.Identities[name].Pool; p != (config.Pool{Sessions: 1}) {
			fmt.Fprintf(&b, "  sessions %d, wait %v, exclusive %v\n", p.Sessions, p.Wait, p.Exclusive)
		}
		writeCookies(&b, f.Identities[name].Cookies)
		for _, a := range f.Identities[name].Auth {
			fmt.Fprintf(&b, "  at %v %s\n", a.Hosts, authText(a.Auth))
		}
		if t := f.Identities[name].TOTP; t != nil {
			fmt.Fprintf(&b, "  totp %q %s %d %s\n", t.Secret, t.Algorithm, t.Digits, t.Period)
		}
	}
	if j := f.CookieJar; len(j.Tools) > 0 || len(j.Import) > 0 {
		fmt.Fprintf(&b, "cookie jar: tools %v, observe %v, ruled %v\n", j.Tools, j.Observe, j.Ruled)
		writeCookies(&b, j.Import)
	}
	writeWays(&b, f.Ways)
	for _, m := range f.Macros {
		fmt.Fprintf(&b, "macro %s (%s)\n", m.Name, m.ID)
		if m.Browser != nil {
			writeBrowser(&b, f.Browser, m.Browser)
		}
		for i, s := range m.Steps {
			if s.Request == nil {
				fmt.Fprintf(&b, "  %d %s: %s\n", i+1, s.Name, localText(s))
				continue
			}
			first, _, _ := strings.Cut(s.Request.String(), "\n")
			fmt.Fprintf(&b, "  %d %s: %s, uses %v\n", i+1, s.Name, first, s.Request.Names())
			for _, e := range s.Extract {
				fmt.Fprintf(&b, "    %s from %s, optional %v\n", e.Token, sourceText(e.Source), e.Optional)
			}
			if s.Repeat != nil {
				fmt.Fprintf(&b, "    repeat while %s every %s for %s\n", s.Repeat.While, s.Repeat.Every, s.Repeat.Timeout)
			}
			if s.Auth != nil {
				fmt.Fprintf(&b, "    %s\n", authText(s.Auth))
			}
			if s.Wait > 0 || s.Redirects.Max > 0 {
				fmt.Fprintf(&b, "    wait %s, redirects %d until %v\n", s.Wait, s.Redirects.Max, s.Redirects.Until)
			}
			if s.BareRequest || s.BareAnswer {
				fmt.Fprintf(&b, "    no cookies in the request %v, of the answer %v\n", s.BareRequest, s.BareAnswer)
			}
			if s.Expect != nil {
				fmt.Fprintf(&b, "    expect %s\n", s.Expect)
			}
		}
	}
	for _, r := range f.Rules {
		writeRule(&b, r)
	}
	var order []string
	for _, r := range f.Set.Rules() {
		order = append(order, r.Name)
	}
	fmt.Fprintf(&b, "order: %s\n", strings.Join(order, ", "))
	return b.String()
}

func authText(a *rule.Auth) string {
	return fmt.Sprintf("auth %s as %s with %q", a.Scheme, a.Username, a.Password)
}

func localText(s macro.Step) string {
	if p := s.Prompt; p != nil {
		return fmt.Sprintf("prompt %s for %s within %s", p.Text, p.Token, p.Timeout)
	}
	if p := s.Script; p != nil {
		return fmt.Sprintf("script %s, uses %v, sets %v", p, p.Gets(), p.Sets())
	}
	return fmt.Sprintf("exec %v for %s within %s", s.Exec.Command, s.Exec.Token, s.Exec.Timeout)
}

// writeWays writes what is said of ways out, and nothing of what is not.
func writeWays(b *strings.Builder, w config.Ways) {
	for _, p := range w.Proxies {
		password, _ := p.Proxy.User.Password()
		fmt.Fprintf(b, "for %v proxy %s, password %q\n", p.Hosts, p.Proxy.Redacted(), password)
	}
	if len(w.Direct) > 0 {
		fmt.Fprintf(b, "direct %v\n", w.Direct)
	}
	for _, n := range w.Names {
		fmt.Fprintf(b, "%v is at %s\n", n.Hosts, n.Address)
	}
	for _, o := range w.Origins {
		fmt.Fprintf(b, "for %v of %v: TLS from %#x, source %v", o.Hosts, o.Identities, o.MinTLS, o.Source)
		if o.Legacy != nil {
			fmt.Fprintf(b, ", legacy %v", *o.Legacy)
		}
		if o.Verify != nil {
			fmt.Fprintf(b, ", verify %v", *o.Verify)
		}
		b.WriteByte('\n')
	}
	if w.Timeouts != (config.Timeouts{}) {
		fmt.Fprintf(b, "timeouts: %+v\n", w.Timeouts)
	}
	for _, t := range w.Throttle {
		fmt.Fprintf(b, "throttle: %+v\n", t)
	}
}

func writeCookies(b *strings.Builder, cookies []jar.Cookie) {
	for _, c := range cookies {
		fmt.Fprintf(b, "  %s=%q, host only %v\n", c, c.Value, c.HostOnly)
	}
}

func writeBrowser(b *strings.Builder, p config.Program, l *macro.Browser) {
	mark := func(m macro.BrowserMark) string {
		return fmt.Sprintf("url %v selector %q text %q cookie %q local %q session %q token %q", m.URL, m.Selector, m.Text, m.Cookie, m.Local, m.Session, m.Token)
	}
	fmt.Fprintf(b, "  %+v, at %v, visible %v, timeout %s, wait %s, refused %q, cookies %+v, screenshot %v\n", p, l.URL, l.Visible, l.Timeout, l.Wait, l.Refused, l.Cookies, l.Screenshot)
	for i, a := range l.Actions {
		fmt.Fprintf(b, "  %d %s %q %v", i+1, a.Do, a.Selector, a.Value)
		if !a.Mark.Empty() {
			b.WriteString(" " + mark(a.Mark))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "  until %s\n", mark(l.Until))
	for _, s := range l.Take {
		fmt.Fprintf(b, "  take %s from %s, session %v, %v\n", s.Token, s.Key, s.Session, s.JSON)
	}
}

func writeVariables(b *strings.Builder, whose string, vars map[string]string) {
	fmt.Fprintf(b, "%s:", whose)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		fmt.Fprintf(b, " %s=%q", name, vars[name])
	}
	b.WriteByte('\n')
}

// writeRule writes what a rule came to.
func writeRule(b *strings.Builder, r rule.Rule) {
	fmt.Fprintf(b, "rule %s (%s): enabled %v, priority %d, keep_foreign %v, resend %q, on_failure %q\n",
		r.Name, r.ID, r.Enabled, r.Priority, r.KeepForeign, r.Resend, r.OnFailure)
	fmt.Fprintf(b, "  scope %q %q, tools %v, exclude %v\n", r.Scope.Pattern, r.Scope.Target, r.Scope.Tools, r.Scope.Exclude)
	writeScope(b, r.Scope)
	if r.Dead != nil {
		fmt.Fprintf(b, "  dead when %s\n", r.Dead)
	}
	if len(r.DeadCloseCodes) > 0 {
		fmt.Fprintf(b, "  dead at close codes %v\n", r.DeadCloseCodes)
	}
	for i, s := range r.Protect {
		fmt.Fprintf(b, "  protect[%d] %q\n", i, s.Pattern)
		writeScope(b, s)
	}
	fmt.Fprintf(b, "  confirm %q, recovery %v\n", r.Confirm, r.Recovery)
	if r.Proactive != nil {
		fmt.Fprintf(b, "  proactive %+v\n", *r.Proactive)
	}
	if p := r.Probe; p != nil {
		fmt.Fprintf(b, "  probe %q every %d, for %s, on suspicion %v\n", p.Macro, p.Every, p.For, p.OnSuspicion)
	}
	for i := range r.Actions {
		fmt.Fprintf(b, "  %s\n", actionText(&r.Actions[i]))
	}
	for _, u := range r.Updates {
		fmt.Fprintf(b, "  token %s", u.Token)
		if u.Source != nil {
			fmt.Fprintf(b, " from %s", sourceText(u.Source))
		}
		if t := u.Target; t != nil {
			fmt.Fprintf(b, " to %s if_absent %q", t.Place(), t.IfAbsent)
			if t.Template != nil {
				fmt.Fprintf(b, " as %q", t.Template.String())
			}
		}
		b.WriteByte('\n')
	}
}

// writeScope writes what is said of a scope beside its pattern.
func writeScope(b *strings.Builder, s rule.Scope) {
	for i, u := range s.Include {
		fmt.Fprintf(b, "  include[%d] %s\n", i, u)
	}
	if p := s.Project; p != nil {
		fmt.Fprintf(b, "  project: include %v, exclude %v\n", p.Include, p.Exclude)
	}
	if len(s.Identities)+len(s.Methods)+len(s.Params) > 0 {
		fmt.Fprintf(b, "  identities %v, methods %v, params %v\n", s.Identities, s.Methods, s.Params)
	}
	if s.Condition != nil {
		fmt.Fprintf(b, "  and %s\n", s.Condition)
	}
}

func actionText(a *rule.Action) string {
	var value any
	switch {
	case a.UseCookies != nil:
		value = *a.UseCookies
	case a.SetParam != nil:
		value = fmt.Sprintf("%s in %v if_absent %q: %s", a.SetParam.Name, a.SetParam.In, a.SetParam.IfAbsent, a.SetParam.Value)
	case a.SetHeader != nil:
		value = fmt.Sprintf("%s if_absent %q: %s", a.SetHeader.Name, a.SetHeader.IfAbsent, a.SetHeader.Value)
	case a.CheckSession != nil:
		text, _, _ := strings.Cut(fmt.Sprintf("%+v", *a.CheckSession), " invalid:")
		value = fmt.Sprintf("%s} invalid when %s", text, a.CheckSession.Invalid())
	case a.RunMacro != nil:
		value = fmt.Sprintf("%+v", *a.RunMacro)
	case a.RunPostMacro != nil:
		value = fmt.Sprintf("%+v", *a.RunPostMacro)
	case a.RecoverInBrowser != nil:
		value = fmt.Sprintf("%+v", *a.RecoverInBrowser)
	case a.RunScript != nil:
		value = a.RunScript.Script
	default:
		return a.Name()
	}
	return strings.TrimSpace(fmt.Sprint(a.Name(), " ", value))
}

func sourceText(s *rule.Source) string { return s.String() }
