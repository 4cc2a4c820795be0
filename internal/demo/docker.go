package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/testcontainers"
)

// image is what Docker runs.
const image = "postgres:17-alpine"

// dockerRuns tells why Docker cannot be used, nil where it can. Its command line is enough: it has
// the user's contexts and credentials, and draws its own progress.
func dockerRuns(ctx context.Context) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("it is not installed")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		return fmt.Errorf("it does not answer: %s", lastLine(out, err))
	}
	return nil
}

func lastLine(out []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return err.Error()
}

func startDocker(ctx context.Context, out io.Writer) (*testcontainers.Cluster, error) {
	return testcontainers.StartOn(ctx, testcontainers.Config{StartTimeout: startLimit}, &container{out: out})
}

// A container is the testcontainers.Backend of the demo. It serves one start: stopping removes it.
type container struct {
	out  io.Writer // gets what docker says of its progress
	name string    // empty before Start
	port int
}

// Status tells where the server is.
func (c *container) Status() testcontainers.Status {
	return testcontainers.Status{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port))}
}

// Start runs the container and waits until the server takes connections.
func (c *container) Start(ctx context.Context) error {
	var err error
	if c.port, err = testcontainers.FreePort(ctx); err != nil {
		return err
	}
	c.name = "rowtide-demo-" + strings.ToLower(rand.Text()[:8])
	cmd := exec.CommandContext(ctx, "docker", c.arguments()...)
	cmd.Stderr = c.out // pulling the image takes a while
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("docker run %s: %w", image, err)
	}
	return c.waitReady(ctx)
}

func (c *container) arguments() []string {
	args := []string{
		"run", "--detach", "--rm", "--name", c.name, "--publish", c.Status().Address + ":5432",
		"--env", "POSTGRES_HOST_AUTH_METHOD=trust", "--env", "POSTGRES_INITDB_ARGS=--locale=C --encoding=UTF8", image, "postgres",
	}
	all := testcontainers.DefaultSettings()
	maps.Copy(all, settings())
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	return args
}

// waitReady connects until it succeeds. While the image makes its cluster no TCP port is open.
func (c *container) waitReady(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgconn.Connect(ctx, fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", testcontainers.Superuser, c.Status().Address))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start PostgreSQL in Docker: not ready in time: %w", err)
		case <-tick.C:
		}
	}
}

// Stop ends the server, and with it the container.
func (c *container) Stop(ctx context.Context, _ string) error { return c.Remove(ctx) }

// Remove removes the container with its data.
func (c *container) Remove(ctx context.Context) error {
	if c.name == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "rm", "--force", "--volumes", c.name).CombinedOutput(); err != nil {
		return fmt.Errorf("docker rm %s: %s", c.name, lastLine(out, err))
	}
	c.name = ""
	return nil
}
