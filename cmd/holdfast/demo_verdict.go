package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
)

// demoResult is the shape of demo --json, version 1.
type demoResult struct {
	Version     int              `json:"v"`
	Requests    uint64           `json:"requests"`
	DeadSeen    uint64           `json:"dead_answers_seen"`
	Failed      uint64           `json:"failed"`
	Logins      int              `json:"logins"`
	Refreshes   int              `json:"refreshes"`
	Died        int              `json:"sessions_died"`
	BurntTokens int              `json:"burnt_refresh_tokens_reused"`
	Totals      *holdfast.Totals `json:"totals,omitempty"`
}

// conclude prints the verdict. With Holdfast, a dead answer or a burnt refresh
// token is the exit code of a lost session.
func (d *demonstration) conclude(cmd *cobra.Command, asJSON bool) error {
	stats := d.shop.Stats()
	r := demoResult{1, d.requests.Load(), d.dead.Load(), d.failed.Load(), stats.Logins, stats.Refreshes, stats.Died, stats.BurntRefreshes, nil}
	if d.holdfast != nil {
		totals := d.holdfast.Totals()
		r.Totals = &totals
	}
	if asJSON {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(r); err != nil {
			return err
		}
	} else {
		d.verdict(r)
	}
	if d.holdfast != nil && (r.DeadSeen > 0 || r.Failed > 0 || r.BurntTokens > 0) {
		return exitCode(exitLost)
	}
	return nil
}

func (d *demonstration) verdict(r demoResult) {
	if d.holdfast == nil {
		d.say("\nWithout Holdfast: %d of %d answers were those of a dead session.\nNow with it: holdfast demo\n", r.DeadSeen, r.Requests)
		return
	}
	word := "HELD"
	if r.DeadSeen > 0 || r.Failed > 0 {
		word = "LOST"
	}
	d.say("\nSession %s: %d requests, %d dead answers reached the client; %d login, %d refreshes, no token used twice: %t;\n%d requests hit a dead session and were sent again unseen.\n",
		word, r.Requests, r.DeadSeen, r.Logins, r.Refreshes, r.BurntTokens == 0, r.Totals.Absorbed)
	d.say("For contrast: holdfast demo --plain\n")
}

// loginOnce takes a token as a tester would by hand.
func (d *demonstration) loginOnce() (string, error) {
	client := d.shop.Client()
	resp, err := client.Post(d.shop.URL+"/auth/login", "application/json", bytes.NewBufferString(`{"username":"emilys","password":"emilyspass"}`))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var tokens struct {
		AccessToken string `json:"accessToken"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the demonstration's shop did not log in: %s", resp.Status)
	}
	client.CloseIdleConnections()
	return tokens.AccessToken, nil
}
