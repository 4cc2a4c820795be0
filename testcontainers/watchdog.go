package testcontainers

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"sync"
)

// watchdogScript outlives a program that is killed. It reads lines: the id of the server to
// guard (0 for none), or "done". The end of its input without a "done" means that the program is
// gone, since the kernel closes the pipe whatever the program died of; then it ends the server
// and removes the folder.
//
// A parent-death signal (PR_SET_PDEATHSIG) would not do: it is bound to the thread that started
// the server, which the Go runtime may end, it is Linux's alone, and it leaves the folder.
// Should the program die in the instant between starting a server and naming it here, the server
// still ends within a minute, when it notices that its lock file is gone.
const watchdogScript = `
trap '' HUP INT TERM
pid=0
while read -r line; do
	case $line in
	done) exit 0 ;;
	*) pid=$line ;;
	esac
done
if [ "$pid" -gt 0 ]; then
	kill -QUIT "$pid"
	n=0
	while [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid" && [ $n -lt 70 ]; do
		sleep 0.1
		n=$((n + 1))
	done
	kill -KILL "$pid"
fi
rm -rf "$1"
`

// A watchdog is the shell that runs watchdogScript.
type watchdog struct {
	cmd *exec.Cmd

	mu sync.Mutex
	in io.WriteCloser // nil once dismissed
}

// startWatchdog guards a folder, and, once guard names it, a server.
func startWatchdog(dir string) (*watchdog, error) {
	// No context: it must outlive everything here.
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "rowtide-watchdog", dir) //nolint:noctx // as said above
	cmd.Dir = "/"
	cmd.SysProcAttr = owner{}.sysProcAttr()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	return &watchdog{cmd: cmd, in: in}, nil
}

// guard names the server to end when the program dies, 0 for none.
func (w *watchdog) guard(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.in == nil {
		return
	}
	// A watchdog that somebody killed cannot be told; that must not fail the server.
	_, _ = io.WriteString(w.in, strconv.Itoa(pid)+"\n")
}

// dismiss ends the watchdog: there is nothing left to guard.
func (w *watchdog) dismiss() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.in == nil {
		return nil
	}
	_, _ = io.WriteString(w.in, "done\n")
	_ = w.in.Close()
	w.in = nil
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("dismiss watchdog: %w", err)
	}
	return nil
}
