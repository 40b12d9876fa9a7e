package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/zalando/go-keyring"

	"github.com/holdfast-proxy/holdfast/store"
)

// The places of a home's key.
const (
	keyInFile = "file"
	keyInRing = "keyring"
)

// keyringService is under what name keys stand in the keyring, each under an
// account of its own.
const keyringService = "holdfast"

// keyringWait is how long the keyring may take: a person may have to unlock it.
const keyringWait = 30 * time.Second

// projectKey is the key of the home directory, wherever it is. The first call
// draws it, and puts it where --key says.
func projectKey(cmd *cobra.Command, dir string) ([]byte, error) {
	place, _ := cmd.Flags().GetString("key")
	switch place {
	case "", keyInFile, keyInRing:
	default:
		return nil, usageError{fmt.Errorf("--key %q: write %s or %s", place, keyInFile, keyInRing)}
	}
	account, made, err := store.KeyringAccount(dir)
	switch {
	case err != nil:
		return nil, err
	case account != "" && place == keyInFile:
		return nil, fmt.Errorf("the key of %s is in the keyring: take it back with: holdfast project key move %s", dir, keyInFile)
	case account != "":
		return ringKey(cmd.Context(), account)
	case place == keyInRing && made:
		return nil, fmt.Errorf("the key of %s is in the file %s: move it with: holdfast project key move %s", dir, store.KeyFile, keyInRing)
	case place == keyInRing:
		return newRingKey(cmd.Context(), dir)
	}
	return store.Key(dir)
}

// ring does one thing with the keyring, and waits for it no longer than
// keyringWait: on a machine without a desktop nobody may answer.
func ring(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }() // which cannot be ended, and has no effect later but its own
	late := time.NewTimer(keyringWait)
	defer late.Stop()
	var err error
	select {
	case err = <-done:
	case <-late.C:
		err = fmt.Errorf("it said nothing for %s", keyringWait)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("the keyring of this system cannot be used: %w; start and unlock one (gnome-keyring, KWallet or KeePassXC in the session that DBUS_SESSION_BUS_ADDRESS names), "+
		"or use a key in a file: on a machine whose keyring has it, holdfast project key move file", err)
}

func ringKey(ctx context.Context, account string) ([]byte, error) {
	var text string
	missing := false
	err := ring(ctx, func() (err error) {
		text, err = keyring.Get(keyringService, account)
		if missing = errors.Is(err, keyring.ErrNotFound); missing {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if missing {
		return nil, fmt.Errorf("the keyring has no key under %s, account %s, which %s names: unlock the keyring that it was put into, or put a copy of the key in that file's place", keyringService, account, store.KeyFile)
	}
	key, err := store.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("the keyring, %s, account %s: %w", keyringService, account, err)
	}
	return key, nil
}

// putInRing puts a key into the keyring, sees that it is there, and has the home
// name it.
func putInRing(ctx context.Context, dir string, key []byte, fresh bool) error {
	account := store.NewKeyringAccount()
	if err := ring(ctx, func() error { return keyring.Set(keyringService, account, hex.EncodeToString(key)) }); err != nil {
		return err
	}
	if again, err := ringKey(ctx, account); err != nil || string(again) != string(key) {
		return errors.Join(errors.New("the keyring did not keep the key; it stays where it was"), err)
	}
	return store.NameKeyring(dir, account, fresh)
}

func newRingKey(ctx context.Context, dir string) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key := store.NewKey()
	return key, putInRing(ctx, dir, key, true)
}

func projectKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Say where the key of the home directory is, and move it",
		Long: `Say where the key is that seals the projects of the home directory, and move it
between the file store.key and the keyring of the system.`,
		Example: "  holdfast project key show\n  holdfast project key move keyring",
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "show",
		Short:   "Say where the key is that seals the projects of the home directory",
		Long:    "Say where the key is that seals the projects of the home directory. The key itself is\nnot shown.",
		Example: "  holdfast project key show",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := home(cmd)
			if err != nil {
				return err
			}
			account, made, err := store.KeyringAccount(dir)
			switch {
			case err != nil:
				return err
			case account != "":
				fmt.Fprintf(cmd.OutOrStdout(), "keyring, %s, account %s\n", keyringService, account)
			case made:
				fmt.Fprintf(cmd.OutOrStdout(), "file %s\n", store.KeyPath(dir))
			default:
				fmt.Fprintln(cmd.OutOrStdout(), "there is none yet: the first start makes it, where --key says")
			}
			return nil
		},
	}, &cobra.Command{
		Use:   "move keyring|file",
		Short: "Move the key of the home directory into the keyring of the system, or back into a file",
		Long: `Move the key that seals the projects of the home directory: into the keyring of
the system (Secret Service on Linux, Keychain, Windows Credential Manager), or back
into the file store.key, mode 0600. Projects stay as they are. What runs goes on. In
the keyring's place store.key only names it; without a copy of the key, losing the
keyring loses the projects.`,
		Example:   "  holdfast project key move keyring\n  holdfast project key move file",
		Args:      needs("where to: keyring or file", cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{keyInRing, keyInFile},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := home(cmd)
			if err != nil {
				return err
			}
			return moveKey(cmd, dir, args[0])
		},
	})
	return cmd
}

func moveKey(cmd *cobra.Command, dir, to string) error {
	account, made, err := store.KeyringAccount(dir)
	if err != nil {
		return err
	}
	switch {
	case !made:
		return fmt.Errorf("%s has no key yet: the first start makes it, where --key says", dir)
	case (account != "") == (to == keyInRing):
		fmt.Fprintf(cmd.OutOrStdout(), "the key is there already: %s\n", to)
		return nil
	case to == keyInRing:
		key, err := store.Key(dir)
		if err == nil {
			err = putInRing(cmd.Context(), dir, key, false)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "the key is in the keyring; keep a copy of it elsewhere: holdfast project key move file takes it back")
		return nil
	}
	key, err := ringKey(cmd.Context(), account)
	if err == nil {
		err = store.PutKey(dir, key)
	}
	if err != nil {
		return err
	}
	if err := ring(cmd.Context(), func() error { return keyring.Delete(keyringService, account) }); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: the key is still in the keyring too: %v\n", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "the key is in %s\n", store.KeyPath(dir))
	return nil
}
