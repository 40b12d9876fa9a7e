//go:build !unix

package main

import (
	"context"
	"errors"
	"io"
)

func runFleet(context.Context, []string, io.Writer, io.Writer) error {
	return errors.New("bench fleet stops and continues processes, which this system cannot")
}
