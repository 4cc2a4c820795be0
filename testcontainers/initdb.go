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

// defaults are the settings of every cluster. They trade durability for speed, which is right
// for data that live as long as a test, and leave room for many slots and connections at once.
func defaults() map[string]string {
	return map[string]string{
		"wal_level":             "logical",
		"max_wal_senders":       "50",
		"max_replication_slots": "50",
		"max_connections":       "200",
		"fsync":                 "off",
		"full_page_writes":      "off",
		"synchronous_commit":    "on", // off would let commits be streamed late, unlike real servers
		"shared_buffers":        "32MB",
		"autovacuum":            "on",
		"timezone":              "UTC",
		"log_line_prefix":       "%m [%p] %q%u@%d ",
		// In the data folder, not in /dev/shm, where a killed server would leave it behind.
		"dynamic_shared_memory_type": "mmap",
	}
}

// initdb makes the data folder and its configuration.
func (c *Cluster) initdb(ctx context.Context) error {
	args := []string{
		"--pgdata=" + c.DataDir(), "--username=" + Superuser, "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
	}
	if c.cfg.Password != "" {
		file := filepath.Join(c.dir, "password")
		if err := c.owner.writeFile(file, c.cfg.Password+"\n"); err != nil {
			return err
		}
		defer os.Remove(file)
		args = append(args, "--auth-host=scram-sha-256", "--pwfile="+file)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin.Dir, "initdb"), args...)
	c.prepare(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb in %s: %w: %s", c.dir, err, lastLine(string(out)))
	}
	return c.configure()
}

// configure writes the settings behind those that initdb wrote: the last one of a name counts.
func (c *Cluster) configure() error {
	settings := defaults()
	maps.Copy(settings, c.cfg.Settings)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	f, err := os.OpenFile(filepath.Join(c.DataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
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
func (c *Cluster) serverArgs() []string {
	return []string{
		"-D", c.DataDir(),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port=" + strconv.Itoa(c.port),
		"-c", "unix_socket_directories=" + c.socketDir(),
	}
}

// socketDir is the cluster's folder, or empty (no socket) where the folder's name is too long
// for a socket's address: 107 bytes on Linux, 103 on macOS (sockaddr_un).
func (c *Cluster) socketDir() string {
	if len(c.dir)+len("/.s.PGSQL.65535") > 103 {
		return ""
	}
	return c.dir
}

// prepare sets who runs a program of the cluster, where, and with which environment: none of
// the caller's PG… variables must reach it.
func (c *Cluster) prepare(cmd *exec.Cmd) {
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + c.bin.Dir + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + c.dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = c.owner.sysProcAttr()
}

// lastLine is the last line of a program's output that says anything.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}
