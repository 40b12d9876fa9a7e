package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// toolImport is the tool of flows that came from a file.
const toolImport = "import"

func flowExportCommand() *cobra.Command {
	var format, query, path string
	cmd := &cobra.Command{
		Use:   "export [ID…]",
		Short: "Write flows of the history as HAR, as curl command lines, or one as a raw request",
		Long: `Write flows of the history, by their IDs or those that a condition in HTTPQL is true
of, the oldest first: as HAR, as curl command lines for bash, or one request raw. What
is written is the request as it was sent, with its answer in HAR. It holds secrets:
what is in it logs in. A file is made with mode 0600.`,
		Example: "  holdfast flow export --query 'req.host.eq:\"shop.example\"' -o shop.har\n  holdfast flow export 4711 --format curl",
		RunE: looking(func(cmd *cobra.Command, s *store.Store, args []string) error {
			switch {
			case (len(args) > 0) == (query != ""):
				return usageError{errors.New("flow export needs either IDs or --query")}
			case format != convert.FormatHAR && format != convert.FormatCurl && format != convert.FormatRaw:
				return usageError{fmt.Errorf("--format %s: write one of har, curl, raw", format)}
			}
			flows, err := exported(cmd.Context(), s, query, args)
			if err != nil {
				return err
			}
			if format == convert.FormatRaw && len(flows) != 1 {
				return usageError{fmt.Errorf("raw is for one flow, and these are %d; use har", len(flows))}
			}
			var b bytes.Buffer
			if err := writeExchanges(&b, format, flows); err != nil {
				return err
			}
			if path == "-" {
				_, err = cmd.OutOrStdout().Write(b.Bytes())
				return err
			}
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %d flows are in %s\n", len(flows), path)
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", convert.FormatHAR, "har, curl or raw")
	f.StringVar(&query, "query", "", "all flows that the condition in `HTTPQL` is true of")
	f.StringVarP(&path, "output", "o", "-", "`file` to write; - is standard output")
	return cmd
}

func writeExchanges(out io.Writer, format string, all []convert.Exchange) error {
	switch format {
	case convert.FormatCurl:
		return convert.WriteCurl(out, all)
	case convert.FormatRaw:
		return convert.WriteRaw(out, &all[0])
	}
	return convert.WriteHAR(out, buildVersion(), all)
}

// exported are the exchanges of flows that are named, or found.
func exported(ctx context.Context, s *store.Store, query string, ids []string) (all []convert.Exchange, err error) {
	size := 0
	add := func(stored *store.Stored) error {
		if stored.Flow.Request == nil {
			return fmt.Errorf("flow %d has no request that can be read", stored.ID)
		}
		x, err := exchangeOf(stored)
		if err != nil {
			return fmt.Errorf("flow %d: %w", stored.ID, err)
		}
		x.Entry = len(all) + 1
		all = append(all, x)
		if size += len(x.RequestBody) + len(x.ResponseBody); size > convert.MaxBodies || len(all) > convert.MaxExchanges {
			return fmt.Errorf("these are more than %d flows, or than %d MiB of bodies: more than can be read again from one file; narrow the query down", convert.MaxExchanges, convert.MaxBodies>>20)
		}
		return nil
	}
	for _, id := range ids {
		stored, err := control.FindFlow(ctx, s, id)
		if err == nil {
			err = add(stored)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, told(err))
		}
	}
	if query == "" {
		return all, nil
	}
	q, err := control.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	for o := (store.Search{Query: q, OldestFirst: true}); ; {
		found, err := s.Search(ctx, o)
		if err != nil {
			return nil, err
		}
		for _, stored := range found.Flows {
			if err := add(stored); err != nil {
				return nil, err
			}
		}
		if o.After = found.Next; found.Next == 0 {
			return all, nil
		}
	}
}

// exchangeOf is a flow as other tools know it.
func exchangeOf(stored *store.Stored) (convert.Exchange, error) {
	f := stored.Flow
	var answer []byte
	if f.Response != nil {
		answer, _ = stored.Record().Bytes(httpql.RespBody)
	}
	x, err := convert.Of(f.Origin.URL(nil), f.Request, stored.SentBody().Payload(), f.Response, answer)
	x.Time = f.Start
	x.BodyMissing = stored.Response != nil && (stored.Response.Cut || stored.Response.Broken)
	return x, err
}

func flowImportCommand() *cobra.Command {
	var o convert.Options
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Put recordings of other tools into the history",
		Long: `Put recordings of other tools into the history: HAR, Burp's saved items, curl command
lines, a raw request. The flows have the tool import and the times of the recording.
What cannot be carried over is told. The file - is standard input. A project that is
not there is made.`,
		Example: "  holdfast flow import shop.har\n  holdfast flow list --query 'flow.tool.eq:\"import\"'",
		Args:    needs("files", cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []*convert.Recording
			for _, path := range args { // before anything is written
				r, err := readForeign(cmd, path, o)
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				for _, lost := range r.Lost {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", path, lost)
				}
				all = append(all, r)
			}
			s, err := openProject(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			n, err := importAll(cmd, s, all)
			fmt.Fprintf(cmd.OutOrStdout(), "%d flows are imported\n", n)
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Plain, "plain", false, "a raw request that names no scheme is for http")
	return cmd
}

func readForeign(cmd *cobra.Command, path string, o convert.Options) (*convert.Recording, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return convert.Read(in, o)
}

// importedAtOnce is how many bytes of bodies, and importedFlows how many flows,
// wait for the disk at a time.
const (
	importedAtOnce = 16 << 20
	importedFlows  = 1000
)

// importAll writes the exchanges into the history, and returns how many there
// were.
func importAll(cmd *cobra.Command, s *store.Store, all []*convert.Recording) (n int, err error) {
	h, err := s.StartHistory(store.HistoryOptions{})
	if err != nil {
		return 0, err
	}
	ids := new(flow.IDs)
	rand.Read(ids.Seed[:]) // never fails, says its doc
	size, waiting := 0, 0
	for _, r := range all {
		for i := range r.Exchanges {
			x := &r.Exchanges[i]
			kept, failed := flowOf(x, ids)
			if failed != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: entry %d was left out: %v\n", x.Entry, failed)
				continue
			}
			h.Record(kept, 0)
			n++
			waiting++
			if size += len(x.RequestBody) + len(x.ResponseBody); size > importedAtOnce || waiting == importedFlows {
				if err := h.Flush(cmd.Context()); err != nil {
					h.Close()
					return n, err
				}
				size, waiting = 0, 0
			}
		}
	}
	err = h.Flush(cmd.Context())
	failing := h.Stats().Failing
	if err = errors.Join(err, h.Close()); err == nil && failing != "" {
		err = errors.New("the history cannot be written: " + failing)
	}
	return n, err
}

// flowOf is a recorded exchange as a flow of the history.
func flowOf(x *convert.Exchange, ids *flow.IDs) (*store.Exchange, error) {
	scheme, rest, _ := strings.Cut(x.URL, "://")
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
	}
	origin, err := holdfast.ParseOrigin(scheme + "://" + authority)
	if err != nil {
		return nil, err
	}
	start := x.Time
	if start.IsZero() {
		start = time.Now()
	}
	f := &flow.Flow{ID: ids.Next(start), Tool: toolImport, Origin: origin, Start: start, Sent: start, Received: x.Request, Request: x.Request, Response: x.Response}
	if f.Response != nil {
		f.Answered = start
	}
	f.End(start, nil)
	kept := &store.Exchange{Flow: f}
	if x.RequestBody != nil {
		kept.Received = &store.Body{Raw: x.RequestBody, Kind: wire.Length, Size: int64(len(x.RequestBody))}
	}
	if x.Response != nil && (x.ResponseBody != nil || x.BodyMissing) {
		kept.Response = &store.Body{Raw: x.ResponseBody, Kind: wire.Length, Size: int64(len(x.ResponseBody)), Cut: x.BodyMissing}
	}
	return kept, nil
}
