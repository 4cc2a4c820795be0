package main

import (
	"fmt"

	"github.com/rowtide/rowtide"
)

type versionCmd struct{}

func (versionCmd) Run(s streams) error {
	_, err := fmt.Fprintln(s.Out, "rowtide", rowtide.Version)
	return err
}
