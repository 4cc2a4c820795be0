package testcontainers

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// initdb makes the data folder and its configuration.
func (l *local) initdb(ctx context.Context) error {
	args := []string{
		"--pgdata=" + l.dataDir(), "--username=" + Superuser, "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
	}
	if l.cfg.Password != "" {
		file := filepath.Join(l.dir, "password")
		if err := l.owner.writeFile(file, l.cfg.Password+"\n"); err != nil {
			return err
		}
		defer os.Remove(file)
		args = append(args, "--auth-host=scram-sha-256", "--pwfile="+file)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin.Dir, "initdb"), args...)
	l.prepare(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb in %s: %w: %s", l.dir, err, lastLine(string(out)))
	}
	return l.configure()
}

// configure writes the settings behind those that initdb wrote: the last one of a name counts.
func (l *local) configure() error {
	settings := DefaultSettings()
	maps.Copy(settings, l.cfg.Settings)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	f, err := os.OpenFile(filepath.Join(l.dataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configure cluster: %w", err)
	}
	if _, err := f.WriteString(b.String()); err != nil {
		f.Close()
		return fmt.Errorf("configure cluster: %w", err)
	}
	return f.Close()
}

// quoteSetting writes a value as postgresql.conf wants it (manual, section 20.1.2).
func quoteSetting(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''", "\n", `\n`).Replace(v) + "'"
}

// serverArgs are what postgres is started with. Port and addresses are arguments so that no
// setting can open the cluster to the network.
func (l *local) serverArgs() []string {
	return []string{
		"-D", l.dataDir(),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port=" + strconv.Itoa(l.port),
		"-c", "unix_socket_directories=" + l.socketDir(),
	}
}

// socketDir is the cluster's folder, or empty (no socket) where the folder's name is too long
// for a socket's address: 107 bytes on Linux, 103 on macOS (sockaddr_un).
func (l *local) socketDir() string {
	if len(l.dir)+len("/.s.PGSQL.65535") > 103 {
		return ""
	}
	return l.dir
}

// prepare sets who runs a program of the cluster, where, and with which environment: none of
// the caller's PG… variables must reach it.
func (l *local) prepare(cmd *exec.Cmd) {
	cmd.Dir = l.dir
	cmd.Env = []string{"PATH=" + l.bin.Dir + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + l.dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = l.owner.sysProcAttr()
}

// lastLine is the last line of a program's output that says anything.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}
