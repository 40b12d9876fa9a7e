package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfast-proxy/holdfast"
)

// maxAnswer is how long a line that a person types may be, in bytes.
const maxAnswer = 4 << 10

// terminalAsker asks on the terminal that the command runs in; nil where its
// input is none, so that a proxy that nobody watches does not wait for a person.
func terminalAsker(cmd *cobra.Command) func(context.Context, holdfast.Question) (string, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return newAsker(in, cmd.ErrOrStderr()).ask
}

// asker asks one question at a time. Lines that were typed while nobody asked
// are dropped: they are not the answer to what is asked later.
type asker struct {
	in  io.Reader
	out io.Writer

	turn  chan struct{} // holds one while nobody asks
	lines chan line
	begin sync.Once // of reading
}

func newAsker(in io.Reader, out io.Writer) *asker {
	a := &asker{in: in, out: out, turn: make(chan struct{}, 1), lines: make(chan line)}
	a.turn <- struct{}{}
	return a
}

type line struct {
	text string
	err  error
}

func (a *asker) ask(ctx context.Context, q holdfast.Question) (string, error) {
	select {
	case <-a.turn:
		defer func() { a.turn <- struct{}{} }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	who := ""
	if q.Identity != "" {
		who = q.Identity + ", "
	}
	fmt.Fprintf(a.out, "holdfast: %smacro %s: %s\n", who, q.Macro, q.Text)
	if !q.Answer {
		return "", nil
	}
	a.begin.Do(func() { go a.read() })
	for drained := false; !drained; {
		select {
		case l := <-a.lines:
			if l.err != nil {
				return "", l.err
			}
		default:
			drained = true
		}
	}
	fmt.Fprintf(a.out, "(within %s) > ", q.Timeout)
	select {
	case l := <-a.lines:
		return l.text, l.err
	case <-ctx.Done():
		fmt.Fprintln(a.out, "\nholdfast: too late, the login has failed; what is typed now is not used")
		return "", ctx.Err()
	}
}

// read reads lines until the end of the input. A read from a terminal cannot be
// ended: it is left behind when the program ends.
func (a *asker) read() {
	scanner := bufio.NewScanner(a.in)
	scanner.Buffer(nil, maxAnswer)
	for scanner.Scan() {
		a.lines <- line{text: scanner.Text()}
	}
	err := scanner.Err()
	if err == nil {
		err = io.EOF
	}
	for {
		a.lines <- line{err: fmt.Errorf("the terminal cannot be read: %w", err)}
	}
}
