// Command findpg prints the folder of the PostgreSQL server binaries that Rowtide's tests and
// demo take, or says where it looked and what to install. The Makefile asks it, so that there is
// one search and not two.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/rowtide/rowtide/testcontainers"
)

func main() {
	bin, err := testcontainers.Find(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, bin.Dir)
}
