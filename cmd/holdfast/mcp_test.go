package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// TestMCPOverStdio has a client of the SDK run the built command, as a host does.
// serve is started anew in between, at another address: the command goes on.
func TestMCPOverStdio(t *testing.T) {
	origin, err := (testenv.Origin{TLS: true}).Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	standard, err := os.ReadFile(clientRules)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pem, rules, home := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "home")
	for path, text := range map[string]string{pem: string(origin.CAPEM()), rules: strings.ReplaceAll(string(standard), "{{ORIGIN}}", origin.URL)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := binary(t)
	start := func() (end func()) {
		cmd := exec.Command(program, "serve", "--home", home, "-c", rules, "--listen", "127.0.0.1:0", "--ui", "127.0.0.1:0", "--upstream-ca", pem)
		launch(t, cmd)
		for began := time.Now(); ; {
			if c, err := client.Open(home); err == nil {
				c.Close()
				break
			}
			if time.Since(began) > patience {
				t.Fatal("serve does not say where its API is")
			}
		}
		return func() {
			cmd.Process.Signal(os.Interrupt)
			cmd.Wait()
		}
	}
	end := start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.Command(program, "mcp", "--home", home)
	var said bytes.Buffer
	cmd.Stderr = &said
	session, err := sdk.NewClient(&sdk.Implementation{Name: "host", Version: "1"}, nil).Connect(ctx, &sdk.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatalf("%v; %s", err, said.String())
	}
	call := func(tool, action string) (string, bool) {
		t.Helper()
		result, err := session.CallTool(ctx, &sdk.CallToolParams{Name: tool, Arguments: map[string]any{"action": action}})
		if err != nil {
			t.Fatalf("%s %s: %v; %s", tool, action, err, said.String())
		}
		return result.Content[0].(*sdk.TextContent).Text, result.IsError
	}
	if text, failed := call("session", "refresh"); failed || !strings.Contains(text, `"state":"alive"`) {
		t.Errorf("refresh: %s", text)
	}
	end()
	if text, failed := call("session", "status"); !failed || !strings.Contains(text, `"error":"not_serving"`) || !strings.Contains(text, "holdfast serve") {
		t.Errorf("without serve: %s", text)
	}
	defer start()()
	if text, failed := call("session", "status"); failed || !strings.Contains(text, `"items":[{`) {
		t.Errorf("with another serve: %s", text)
	}
	if err := session.Close(); err != nil {
		t.Errorf("the command ended with %v", err)
	}
	if said.Len() > 0 {
		t.Errorf("the command said %q", said.String())
	}
}
