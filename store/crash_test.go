package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// crashing names the project in which a child process writes until it is killed,
// and crashRound what the paths of its flows begin with.
const (
	crashing   = "HOLDFAST_TEST_CRASH"
	crashRound = "HOLDFAST_TEST_CRASH_ROUND"
)

// TestCrashChild is the child of TestWhatWasWrittenOutlivesAKill; by itself it
// does nothing.
func TestCrashChild(t *testing.T) {
	dsn := os.Getenv(crashing)
	if dsn == "" {
		return
	}
	s := storetest.Project{DSN: dsn}.Open(t, store.Options{})
	h := history(t, s, store.HistoryOptions{})
	for n := 0; n < 100_000; n++ {
		h.Record(plain(t, fmt.Sprintf("/%s/%d", os.Getenv(crashRound), n), strings.Repeat(strconv.Itoa(n)+" ", n%1000)), 0)
		if n%7 == 0 {
			flush(t, h)
			fmt.Println("written", n)
		}
	}
}

func TestWhatWasWrittenOutlivesAKill(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		for round := range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashChild$")
			child.Env = append(os.Environ(), crashing+"="+p.DSN, crashRound+"="+strconv.Itoa(round))
			child.WaitDelay = limit
			out, err := child.StdoutPipe()
			if err == nil {
				err = child.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			written, lines := -1, bufio.NewScanner(out)
			for lines.Scan() {
				if n, ok := strings.CutPrefix(lines.Text(), "written "); ok {
					if written, err = strconv.Atoi(n); err != nil {
						t.Fatal(err)
					}
				}
				if written >= 50*(round+1) {
					child.Process.Kill() // in the middle of the next write
				}
			}
			child.Wait()
			cancel()
			if written < 0 {
				t.Fatal("the child wrote nothing")
			}
			s := p.Open(t, store.Options{})
			all, err := s.Flows(t.Context(), 0, 100_000, false)
			if err != nil {
				t.Fatal(err)
			}
			// PostgreSQL may commit what it had of a dead client a moment later.
			prefix := fmt.Sprintf("/%d/", round)
			mine := slices.DeleteFunc(all, func(x *store.Stored) bool { return !strings.HasPrefix(string(x.Flow.Request.Path()), prefix) })
			if len(mine) <= written {
				t.Errorf("round %d: %d flows after %d were written", round, len(mine), written+1)
			}
			for i, x := range mine {
				if string(x.Flow.Request.Path()) != prefix+strconv.Itoa(i) || string(x.Response.Raw) != strings.Repeat(strconv.Itoa(i)+" ", i%1000) {
					t.Fatalf("round %d: flow %d is %s with %d bytes", round, i, x.Flow.Request.Path(), len(x.Response.Raw))
				}
			}
			if !store.IsPostgres(p.DSN) {
				if is := store.Text(t, s, "PRAGMA integrity_check"); is != "ok" {
					t.Error(is)
				}
			}
			s.Close()
		}
	})
}
