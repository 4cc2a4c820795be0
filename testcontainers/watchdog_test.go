package testcontainers_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rowtide/rowtide/testcontainers"
)

// helperEnv makes this test binary a program that starts a cluster in the folder that the
// variable names, says where it is, and waits to be killed.
const helperEnv = "ROWTIDE_TEST_CLUSTER_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperEnv); dir != "" {
		startAndWait(dir)
	}
	goleak.VerifyTestMain(m)
}

func startAndWait(dir string) {
	c, err := testcontainers.Start(context.Background(), testcontainers.Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stdout, "error", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, "started", c.Pid(), c.Dir())
	select {}
}

// A killed test run or demo, which can clean up nothing itself, leaves neither process nor folder.
func TestClusterOfAKilledProgramEndsAndGoes(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), helperEnv+"="+reachableDir(t))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var pid int
			var dir string
			if _, err := fmt.Sscanf(line, "started %d %s", &pid, &dir); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the program was not killed")
			}
			eventually(t, 20*time.Second, "the folder is removed", func() bool {
				_, err := os.Stat(dir)
				return errors.Is(err, fs.ErrNotExist)
			})
			// Ended, and not only about to notice that its folder is gone.
			eventually(t, 3*time.Second, "the server has ended", func() bool { return !alive(pid) })
		})
	}
}

// alive tells whether a process runs. One that ended and that nobody has reaped, as in a
// container without an init, does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func eventually(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
