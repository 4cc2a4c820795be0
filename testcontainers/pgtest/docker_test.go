package pgtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/testcontainers"
)

// Where there is neither, the failing test says in one line what to install.
func TestWithoutBinariesAndDockerTheFixIsTold(t *testing.T) {
	t.Parallel()
	missing := &testcontainers.NotFoundError{Looked: []string{"PATH"}}
	err := noServer(missing, errors.New("cannot connect to the Docker daemon:\n\tis it running?"))
	for _, want := range []string{"run: apt-get install postgresql", "Docker cannot stand in (is it running?): cannot connect to the Docker daemon: is it running?"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
}

// Who names the binaries to use does not get a container instead.
func TestNamedBinariesAreNotReplacedByDocker(t *testing.T) {
	t.Parallel()
	c, err := start(t.Context(), testcontainers.Config{BinDir: t.TempDir()})
	var missing *testcontainers.NotFoundError
	if c != nil || !errors.As(err, &missing) || strings.Contains(err.Error(), "stand in") {
		t.Errorf("cluster %v, error %v", c, err)
	}
}
