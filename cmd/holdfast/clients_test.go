package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// What the origin of the scripts client_*.txtar has below /guarded/, for the
// sake of single clients. All of it needs a live session.

// clientRules are the rules of a script that has none of its own.
const clientRules = "testdata/clients/rules.yaml"

// guarded is the handler; repositories are in the directory repos.
func guarded(ts *testscript.TestScript) http.Handler {
	mux := pages()
	if git, err := exec.LookPath("git"); err == nil {
		mux.Handle("/guarded/git/", unchunked(&cgi.Handler{
			Path: git, Args: []string{"http-backend"}, Root: "/guarded/git", Stderr: os.Stderr,
			Env: []string{"GIT_PROJECT_ROOT=" + ts.MkAbs("repos"), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=alice"},
		}))
	}
	return mux
}

// pages are those that need nothing from a script.
func pages() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/guarded/query", query)
	mux.HandleFunc("/guarded/pin", pin)
	mux.HandleFunc("/guarded/word", word)
	mux.HandleFunc("/guarded/cookie", fuzzedCookie)
	mux.HandleFunc("/guarded/things", things)
	for _, service := range []string{"shop.Shop", "call.Shop", "only.Shop"} {
		mux.HandleFunc("/guarded/"+service+"/Say", say)
	}
	mux.Handle("/guarded/", http.StripPrefix("/guarded", http.FileServer(http.Dir("testdata/clients"))))
	told := make(chan struct{})
	mux.HandleFunc("/guarded/events", func(w http.ResponseWriter, r *http.Request) { events(w, r, told) })
	mux.HandleFunc("/guarded/ack", func(w http.ResponseWriter, r *http.Request) {
		select {
		case told <- struct{}{}:
		case <-r.Context().Done():
		}
	})
	return mux
}

// fuzzedCookie answers 409 unless the cookie holds what the URL says.
func fuzzedCookie(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie("sessid"); err != nil || c.Value != r.URL.Query().Get("word") {
		w.WriteHeader(http.StatusConflict)
	}
}

// events sends three events, each but the first when told that the last has
// come.
func events(w http.ResponseWriter, r *http.Request, told <-chan struct{}) {
	w.Header().Set("Content-Type", "text/event-stream")
	last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID")) // 0 at the beginning
	for i := range 3 {
		if i > 0 || last > 0 {
			select {
			case <-told:
			case <-r.Context().Done():
				return
			}
		}
		fmt.Fprintf(w, "id: %[1]d\nretry: 10\ndata: event %[1]d\n\n", last+i+1)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
	}
}

// unchunked gives a request the length that CGI wants to know.
func unchunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		next.ServeHTTP(w, r)
	})
}

// word answers 200 for every tenth of the words that the script's command
// words writes, with 404 for the rest.
func word(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Query().Get("w"), "word"))
	if err != nil || n%10 != 0 {
		http.Error(w, "there is no such word", http.StatusNotFound)
		return
	}
	fmt.Fprintf(w, "word %d", n)
}

// things are pages that link to each other, one of which shows what it is
// asked for as it came.
func things(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<html><body><h1>Things</h1><p>%s</p>", r.URL.Query().Get("name"))
	n, _ := strconv.Atoi(r.URL.Query().Get("page")) // the first one has no number
	if n < 6 {
		fmt.Fprintf(w, `<a href="/guarded/things?page=%d">next</a>`, n+1)
	} else {
		fmt.Fprint(w, `<a href="/guarded/things?name=kettle">kettle</a>`)
	}
	fmt.Fprint(w, "</body></html>")
}

// pin is a form whose code is to be guessed.
func pin(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("code") != "word17" {
		fmt.Fprint(w, "<p>wrong code</p>")
		return
	}
	fmt.Fprint(w, "<p>welcome</p>")
}

// behind runs a command behind holdfast run with the script's rules:
//
//	behind [-requests N] [-dead N] [-broken N] [-config FILE] COMMAND [ARG…]
//
// It fails unless the command ends well, every session was held, there were
// at least so many requests, so many of them met a dead session, and at most so
// many broke off.
func behind(ts *testscript.TestScript, neg bool, args []string) {
	f := flag.NewFlagSet("behind", flag.ContinueOnError)
	requests := f.Int("requests", 1, "")
	dead := f.Int("dead", 1, "")
	broken := f.Uint64("broken", 0, "")
	rules := f.String("config", "rules.yaml", "")
	ts.Check(f.Parse(args))
	const report = "report.json"
	command := []string{"run", "-c", *rules, "--report", report, "--trace", "trace.jsonl"}
	if strings.HasPrefix(ts.Getenv("ORIGIN"), "https:") {
		command = append(command, "--upstream-ca", ts.Getenv("ORIGIN_CA"))
	}
	// Some clients never give up where they get no answer that they know.
	command = append(command, "--", "timeout", "300")
	ts.Check(ts.Exec("holdfast", append(command, f.Args()...)...))
	var got reportFile
	raw, err := os.ReadFile(ts.MkAbs(report))
	ts.Check(err)
	ts.Check(json.Unmarshal(raw, &got))
	if int(got.Totals.Requests) < *requests || int(got.Totals.Absorbed) < *dead || got.Totals.Lost+got.Totals.Refused+got.Totals.Failed > *broken {
		ts.Fatalf("want at least %d requests, of which %d met a dead session, and none lost, refused or, above %d, broken off: %s", *requests, *dead, *broken, raw)
	}
}
