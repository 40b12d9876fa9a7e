package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/control"
)

// watchEvery is how often --watch looks at the files. Editors replace files, and
// shared directories tell nobody: looking works for all of them.
const watchEvery = 500 * time.Millisecond

// reread reads the configuration file again. Mistakes are told, and the one before
// still holds.
func (o *options) reread(cmd *cobra.Command, h *holdfast.Holdfast) (*holdfast.Reloaded, error) {
	file, warnings, err := config.Load(o.file, config.Options{})
	if err != nil {
		return nil, err
	}
	warnings.Format(cmd.ErrOrStderr())
	return h.Reload(file)
}

// onHangup reads the file again with each SIGHUP, and with each change of it where
// watched, until ctx ends.
func (o *options) onHangup(ctx context.Context, cmd *cobra.Command, h *holdfast.Holdfast) (done func()) {
	if o.file == "" {
		return func() {}
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var ticks <-chan time.Time
	ticker := time.NewTicker(watchEvery)
	if o.watch {
		ticks = ticker.C
	}
	var once sync.Once
	over := make(chan struct{})
	had := o.looks(h)
	go func() {
		defer close(over)
		last := had
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			case <-ticks:
				now := o.looks(h)
				settled := maps.Equal(now, last)
				if last = now; maps.Equal(now, had) || !settled {
					continue // nothing has changed, or somebody still writes
				}
			}
			before := o.looks(h)
			if _, err := o.reread(cmd, h); err != nil {
				tellRefused(cmd.ErrOrStderr(), err)
			}
			had = o.looks(h) // it may name other files now
			for path := range had {
				if look, there := before[path]; there {
					had[path] = look // what came while it was read is a change
				}
			}
			last = had
		}
	}()
	return func() {
		once.Do(func() {
			signal.Stop(hangups)
			cancel()
			<-over
			ticker.Stop()
		})
	}
}

func tellRefused(w io.Writer, err error) {
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		mistakes.Format(w)
		fmt.Fprintln(w, "holdfast: the configuration was not changed: the file has mistakes, and the one before still holds")
		return
	}
	fmt.Fprintf(w, "holdfast: the configuration was not changed: %v\n", err)
}

// looks is how the file, and the files that it names, look from outside.
func (o *options) looks(h *holdfast.Holdfast) map[string]string {
	all := make(map[string]string)
	for _, path := range append([]string{o.file}, h.File().Sources...) {
		if info, err := os.Stat(path); err == nil {
			all[path] = fmt.Sprint(info.Size(), " ", info.ModTime().UnixNano())
		} else {
			all[path] = "it is not there"
		}
	}
	return all
}

// changing makes a command that has another configuration hold.
func changing(use, short, example, operation string, args cobra.PositionalArgs, fill func(cmd *cobra.Command, p map[string]any, args []string) error) *cobra.Command {
	return live(use, short, example, args, "json", func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
		p := o.params()
		if err := fill(cmd, p, args); err != nil {
			return err
		}
		var out control.Reloaded
		if err := c.Call(cmd.Context(), operation, p, &out); err != nil {
			return err
		}
		if o.asJSON {
			return printJSON(cmd, out)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), plain(out.What))
		return err
	})
}

// fillText takes a text from the file that the argument at names, - is the
// standard input.
func fillText(at int) func(cmd *cobra.Command, p map[string]any, args []string) error {
	return func(cmd *cobra.Command, p map[string]any, args []string) error {
		in := cmd.InOrStdin()
		if args[at] != "-" {
			f, err := os.Open(filepath.Clean(args[at]))
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		raw, err := io.ReadAll(io.LimitReader(in, config.MaxFileSize+1))
		if err != nil {
			return err
		}
		p["text"] = string(raw)
		if at > 0 {
			p["name"] = args[0]
		}
		return nil
	}
}

// entryCommands create, update and delete macros, or rules.
func entryCommands(kind string) []*cobra.Command {
	return []*cobra.Command{
		changing("create FILE", "Add a "+kind+" to the configuration of a running serve, from a file that has it as a configuration does; - is the standard input",
			"holdfast "+kind+" create "+kind+".yaml", kind+".create", cobra.ExactArgs(1), fillText(0)),
		changing("update NAME FILE", "Put a "+kind+" in the place of the one with that name; - is the standard input",
			"holdfast "+kind+" update shop "+kind+".yaml", kind+".update", cobra.ExactArgs(2), fillText(1)),
		changing("delete NAME", "Take a "+kind+" out of the configuration of a running serve; the file stays as it is",
			"holdfast "+kind+" delete shop", kind+".delete", cobra.ExactArgs(1),
			func(_ *cobra.Command, p map[string]any, args []string) error { p["name"] = args[0]; return nil }),
	}
}

// configCommands change and export the configuration.
func configCommands() []*cobra.Command {
	export := live("export [FILE]", "Write the configuration that holds as one file, with what was changed by hand; serve must have been started with --reveal-secrets, since credentials may stand in it", "holdfast config export shop.yaml", cobra.MaximumNArgs(1), "",
		func(cmd *cobra.Command, c *client.Client, _ *liveOptions, args []string) error {
			var out control.ConfigText
			if err := c.Call(cmd.Context(), "config.export", map[string]any{}, &out); err != nil {
				return err
			}
			if len(args) == 1 && args[0] != "-" {
				return os.WriteFile(filepath.Clean(args[0]), []byte(out.Text), 0o600)
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), out.Text)
			return err
		})
	return []*cobra.Command{
		changing("put FILE", "Have another configuration hold from now on; - is the standard input. It runs programs and reads files and the environment only as the file of serve does, or with serve --api-trusted", "holdfast config put shop.yaml", "config.put", cobra.ExactArgs(1), fillText(0)),
		changing("reload", "Read the configuration file again, and have it hold from now on", "holdfast config reload", "config.reload", cobra.NoArgs,
			func(*cobra.Command, map[string]any, []string) error { return nil }),
		export,
	}
}
