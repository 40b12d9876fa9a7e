package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/macro/derive"
	"github.com/holdfast-proxy/holdfast/store"
)

// servingOr has a running serve do it, or does it with the project itself where
// none runs, or where the flags name a project.
func servingOr(cmd *cobra.Command, asked func(c *client.Client) error, direct func(s *store.Store) error) error {
	if !cmd.Flags().Changed("project") && !cmd.Flags().Changed("store") {
		dir, err := home(cmd)
		if err != nil {
			return err
		}
		c, err := client.Open(dir)
		if err == nil {
			defer c.Close()
			return asked(c)
		}
		if !errors.Is(err, client.ErrNotServing) {
			return err
		}
	}
	s, err := existingProject(cmd)
	if err != nil {
		return err
	}
	defer s.Close()
	return told(direct(s))
}

// numbers reads the numbers of flows.
func numbers(args []string) ([]int64, error) {
	var all []int64
	for _, arg := range args {
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || n <= 0 {
			return nil, usageError{fmt.Errorf("%s is no number of a flow; holdfast flow list shows them", arg)}
		}
		all = append(all, n)
	}
	return all, nil
}

func macroDeriveCommand() *cobra.Command {
	o := &deriveOptions{}
	var choice control.FlowsChoice
	var reveal, save bool
	var identity string
	cmd := &cobra.Command{
		Use:   "derive [ID…]",
		Short: "Make a macro of flows of the history, or of a recording",
		Long: `Make a macro of flows of the history: those of the numbers that holdfast flow list
shows, of a recording (macro record start), or those that a condition in HTTPQL is
true of. A running serve is asked; where none runs, or with --project or --store, the
project is read itself (there, recordings are not known).

What becomes of each request, value and cookie is as for macro import. Credentials, and
what else looks like a secret and comes from no answer, stand in the configuration as
${env:NAME}; what to set is told. With --reveal they stand there, where serve was
started with --reveal-secrets. The report goes to standard error and shows no value.

With --save the running serve has the macro at once, with its values as variables of
the identity; the project keeps both. A macro or a value of another kind that is there
under the name is left as it is, and told.

Exit code 0: done; 1: the macro was not proved (it is written all the same).`,
		Example: "  holdfast macro derive --recording login -o shop.yaml --prove\n  holdfast macro derive 4711 4712 4715 --name login\n  holdfast macro derive --query 'req.host.eq:\"shop.example\"' --json -o shop.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			named := 0
			for _, is := range []bool{len(args) > 0, choice.Recording != "", choice.Query != ""} {
				if is {
					named++
				}
			}
			if named != 1 {
				return usageError{errors.New("macro derive needs either IDs, --recording or --query")}
			}
			if identity != "" && !save {
				return usageError{errors.New("--identity says whose variables --save makes, and needs it")}
			}
			if o.asJSON && o.out == "" {
				return usageError{errors.New("--json needs -o FILE: the configuration would stand in the report")}
			}
			var err error
			if choice.Flows, err = numbers(args); err != nil {
				return err
			}
			if err := o.free(); err != nil {
				return err
			}
			return servingOr(cmd, func(c *client.Client) error {
				return o.deriveAsked(cmd, c, &choice, map[string]bool{"reveal": reveal, "save": save}, identity)
			}, func(s *store.Store) error {
				if save {
					return usageError{errors.New("--save needs a running serve, whose configuration the macro becomes part of: start holdfast serve, and leave out --project and --store")}
				}
				return o.deriveDirect(cmd, s, &choice, reveal)
			})
		},
	}
	o.addOut(cmd)
	o.addWays(cmd)
	f := cmd.Flags()
	f.StringVar(&choice.Recording, "recording", "", "the flows of the recording `NAME`; - is the last one")
	f.StringVar(&choice.Query, "query", "", "the flows that the condition in `HTTPQL` is true of")
	f.StringVar(&o.name, "name", "login", "`name` of the macro")
	f.StringArrayVar(&o.values, "value", nil, "a credential that was typed, as `NAME=VALUE` such as USER=alice: wherever it stands it becomes {{NAME}}; may be repeated")
	f.BoolVar(&o.all, "all", false, "keep every request that is no static file, preflight or analytics")
	f.BoolVar(&o.prove, "prove", false, "run the macro twice against the application, each time with an empty jar, derive what differs, and drop the steps that it runs without; exit code 1 where it does not run")
	f.BoolVar(&o.asJSON, "json", false, "print what was derived as JSON, as the API has it")
	f.BoolVar(&save, "save", false, "have the macro be part of what the running serve lives by, with its values as variables of the identity; nothing that is there is changed")
	f.StringVar(&identity, "identity", "", "with --save, the `NAME` of the identity (default the one that speaks where nobody is named)")
	f.BoolVar(&reveal, "reveal", false, "write credentials into the configuration")
	return cmd
}

// deriveAsked has serve derive.
func (o *deriveOptions) deriveAsked(cmd *cobra.Command, c *client.Client, choice *control.FlowsChoice, switches map[string]bool, identity string) error {
	values, err := assignments("--value", o.values)
	if err != nil {
		return err
	}
	p := map[string]any{"name": o.name}
	for name, given := range map[string]any{"values": values, "flows": choice.Flows} {
		if len(values) > 0 && name == "values" || len(choice.Flows) > 0 && name == "flows" {
			p[name] = given
		}
	}
	for name, text := range map[string]string{"recording": choice.Recording, "query": choice.Query, "identity": identity} {
		if text != "" {
			p[name] = text
		}
	}
	switches["all"], switches["prove"] = o.all, o.prove
	for name, on := range switches {
		if on {
			p[name] = true
		}
	}
	run, err := finish(cmd, c, "macro.derive", p)
	if err != nil {
		return err
	}
	if run.Derived == nil {
		return ended(run)
	}
	if err := o.printDerived(cmd, run.Derived); err != nil {
		return err
	}
	if run.Error != nil || run.State != control.RunDone {
		return exitCode(exitError)
	}
	return nil
}

// deriveDirect derives of a project that nobody serves.
func (o *deriveOptions) deriveDirect(cmd *cobra.Command, s *store.Store, choice *control.FlowsChoice, reveal bool) error {
	d, err := o.deriving()
	if err != nil {
		return err
	}
	r, err := control.Choose(cmd.Context(), s, choice)
	if err != nil {
		return err
	}
	var env *derive.Env
	if o.prove {
		c, err := o.config(cmd)
		if err != nil {
			return err
		}
		send, closeAll, err := holdfast.OpenSender(c)
		if err != nil {
			return err
		}
		defer closeAll()
		env = &derive.Env{Send: send, Now: time.Now, Drop: !o.all}
	}
	derived, err := control.Derive(cmd.Context(), r, d, env, reveal)
	if err != nil {
		return err
	}
	if err := o.printDerived(cmd, derived); err != nil {
		return err
	}
	if proved := derived.Report.Proved; proved != nil && !*proved {
		return exitCode(exitError)
	}
	return nil
}

// printDerived writes the configuration, and what is to be said about it.
func (o *deriveOptions) printDerived(cmd *cobra.Command, d *control.Derived) error {
	if o.out == "" {
		if _, err := io.WriteString(cmd.OutOrStdout(), d.Text); err != nil {
			return err
		}
	} else if err := writeOwn(o.out, []byte(d.Text)); err != nil {
		return err
	}
	w := cmd.ErrOrStderr()
	if o.asJSON {
		if err := printJSON(cmd, d); err != nil {
			return err
		}
	} else {
		printDerivation(w, &d.Report)
	}
	if d.Saved != "" {
		fmt.Fprintf(w, "saved    %s\n", readable(d.Saved))
		return nil // serve has the values
	}
	printEnv(w, d.Env)
	return nil
}

// printEnv says what to set. Values are not shown: they would stay in the terminal.
func printEnv(w io.Writer, names []string) {
	for _, name := range names {
		fmt.Fprintf(w, "set         read -rs %s && export %s\n", name, name)
	}
}

// printDerivation is derive's own report, of what the API says.
func printDerivation(w io.Writer, r *control.Derivation) {
	for i, s := range r.Steps {
		fmt.Fprintf(w, "step %d  entry %d  %s\n", i+1, s.Entry, readable(s.Name))
		for _, u := range s.Uses {
			fmt.Fprintf(w, "    %-28s {{%s}}  %s\n", readable(u.Place), u.Token, readable(u.From))
		}
		for _, x := range s.Takes {
			fmt.Fprintf(w, "    takes                        %s from %s, for %s\n", x.Token, readable(x.From), or(readable(strings.Join(x.For, "; ")), "requests after the macro"))
		}
		if s.Expects != "" {
			fmt.Fprintf(w, "    expects                      %s\n", readable(s.Expects))
		}
	}
	for _, p := range r.Products {
		fmt.Fprintf(w, "brings   %s, by step %d; later requests carry it in %s\n", p.Token, p.Step, or(readable(p.Place), "no place of the recording"))
	}
	for _, x := range r.Dropped {
		fmt.Fprintf(w, "dropped  entry %d  %s %s: %s\n", x.Entry, readable(x.Method), readable(x.URL), readable(x.Reason))
	}
	for _, x := range r.Open {
		fmt.Fprintf(w, "as recorded  step %d, %s: %s\n", x.Step, readable(x.Place), readable(x.Why))
	}
	for _, text := range r.Notes {
		fmt.Fprintf(w, "note     %s\n", readable(text))
	}
	for _, text := range r.Lost {
		fmt.Fprintf(w, "lost     %s\n", readable(text))
	}
	switch {
	case r.Proved == nil:
	case *r.Proved:
		fmt.Fprintf(w, "proved   it ran %d times, each with an empty jar, and every value that differed was derived\n", r.Runs)
	default:
		fmt.Fprintf(w, "NOT proved, after %d runs\n", r.Runs)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "problem  step %d (entry %d), %s: %s %s\n", f.Step, f.Entry, or(readable(f.Place), "the whole step"), readable(f.Problem), readable(f.From))
	}
}

// flowsLearnt learns of the history: a running serve asks the application, or
// this program where none runs.
func (o *learnOptions) flowsLearnt(cmd *cobra.Command) error {
	show := func(l *control.Learnt, err error) error {
		if l == nil {
			return told(err)
		}
		return o.printLearnt(cmd, l, err)
	}
	return servingOr(cmd, func(c *client.Client) error {
		p := map[string]any{"query": o.query, "max_requests": o.learn.MaxRequests, "rate": max(1, int(o.learn.Rate))}
		for name, text := range map[string]string{"base": o.learn.Base, "user": o.learn.User, "password": o.learn.Password} {
			if text != "" {
				p[name] = text
			}
		}
		for name, on := range map[string]bool{"writes": o.learn.Writes, "reveal": o.learn.InlineSecrets} {
			if on {
				p[name] = true
			}
		}
		stop := func() {}
		if !o.quiet {
			stop = o.overhear(cmd, c)
		}
		run, err := finish(cmd, c, "learn", p)
		stop()
		switch {
		case err != nil:
			return err
		case run.Learnt == nil:
			return ended(run)
		}
		return show(run.Learnt, ended(run))
	}, func(s *store.Store) error {
		r, err := control.Choose(cmd.Context(), s, &control.FlowsChoice{Query: o.query})
		if err != nil {
			return err
		}
		return show(control.Learn(cmd.Context(), r, o.learn))
	})
}

// overhear tells of the progress of runs until it is stopped.
func (o *learnOptions) overhear(cmd *cobra.Command, c *client.Client) (stop func()) {
	return hearProgress(cmd.Context(), c, progress(cmd.ErrOrStderr()))
}

// hearProgress tells what runs of learning and examining do, from now on. stop
// waits for its end.
func hearProgress(ctx context.Context, c *client.Client, tell func(string)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	began, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		// Without events there is no progress to be seen, and nothing else is lost.
		_ = c.Follow(ctx, func() { close(began) }, func(e control.Event) bool {
			if text := progressOf(&e); text != "" {
				tell(text)
			}
			return true
		})
	}()
	select {
	case <-began:
	case <-over:
	}
	return func() { cancel(); <-over }
}

// printLearnt writes the configuration and the report.
func (o *learnOptions) printLearnt(cmd *cobra.Command, l *control.Learnt, err error) error {
	if writeErr := writeLearnt(cmd, o.out, []byte(l.Text)); writeErr != nil {
		return writeErr
	}
	if o.asJSON {
		if jsonErr := printJSON(cmd, l.Report); jsonErr != nil {
			return jsonErr
		}
	}
	w := cmd.ErrOrStderr()
	for _, lost := range l.Lost {
		fmt.Fprintf(w, "lost        %s\n", readable(lost))
	}
	l.Report.Write(w)
	printEnv(w, l.Env)
	if o.out != "" {
		fmt.Fprintf(w, "use         holdfast serve -c %s\n", o.out)
	}
	if !l.Report.Held {
		return exitCode(exitLost)
	}
	return err
}

// exists reports a file that is not to be overwritten.
func exists(path string, force bool) error {
	if _, err := os.Stat(path); path != "" && err == nil && !force {
		return fmt.Errorf("%s exists; overwrite it with --force, or name another", path)
	}
	return nil
}
