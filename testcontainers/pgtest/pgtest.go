// Package pgtest gives tests a real PostgreSQL: one cluster for the tests of a package, started
// on first use, and a database of its own for each test.
//
// A package's TestMain is
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// It guarantees that tests that run in parallel share nothing but the cluster: databases and
// roles have names of their own and are gone when the test ends. Where no server can be had the
// test fails, with the line that says what to install; none is skipped.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rowtide/rowtide/testcontainers"
)

// shared is the cluster of the test binary: one a process, which is what go test runs a
// package's tests in. It cannot be passed from TestMain to the tests.
var shared struct {
	mu      sync.Mutex
	cluster *testcontainers.Cluster
	err     error
}

// names makes the names of databases and roles unique within the process, and so within every
// cluster of it.
var names atomic.Int64

// Main runs the tests, stops the package's cluster where one was started, and then fails if a
// goroutine is left running. It returns the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a failed test may well have left something
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: goroutines are left running:", err)
		return 1
	}
	return 0
}

func stopShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := shared.cluster.Stop(ctx)
	shared.cluster = nil
	return err
}

// sharedCluster starts the package's cluster on first use. A failure is kept: the next test
// would only wait for the same one.
func sharedCluster(t testing.TB) *testcontainers.Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = start(t.Context(), testcontainers.Config{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// Cluster starts a cluster for this test alone: for tests that stop the server or need settings
// of their own. It is stopped and removed when the test ends.
func Cluster(t testing.TB, cfg testcontainers.Config) *testcontainers.Cluster {
	t.Helper()
	c, err := start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop cluster: %v", err)
		}
	})
	return c
}
