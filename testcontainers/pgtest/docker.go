package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"

	"github.com/rowtide/rowtide/testcontainers"
)

// Image is the PostgreSQL that Docker runs where the machine has no server binaries.
const Image = "postgres:17-alpine"

// start starts a cluster from the machine's binaries, or from Docker where there are none.
// Somebody who names the binaries to use gets those or an error.
func start(ctx context.Context, cfg testcontainers.Config) (*testcontainers.Cluster, error) {
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 5 * time.Minute // a machine may have much else to do; an image may have to be downloaded
	}
	c, err := testcontainers.Start(ctx, cfg)
	var missing *testcontainers.NotFoundError
	if !errors.As(err, &missing) || cfg.BinDir != "" || os.Getenv(testcontainers.BinDirEnv) != "" {
		return c, err
	}
	docker, dockerErr := tc.NewDockerClientWithOpts(ctx)
	if dockerErr != nil {
		return nil, noServer(missing, dockerErr)
	}
	return testcontainers.StartOn(ctx, cfg, &dockerServer{cfg: cfg, docker: docker})
}

// noServer says in one line that there are neither binaries nor Docker, and what to install.
func noServer(missing *testcontainers.NotFoundError, docker error) error {
	return fmt.Errorf("%w; Docker cannot stand in (is it running?): %s", missing, strings.Join(strings.Fields(docker.Error()), " "))
}

// dockerServer is the testcontainers.Backend that runs a container. The reaper of
// testcontainers-go removes the container when this process is killed.
type dockerServer struct {
	cfg       testcontainers.Config
	docker    *tc.DockerClient
	port      int
	container *tc.DockerContainer // nil before the first Start
	pid       atomic.Int64        // as the machine that Docker runs on counts
}

// Status tells where the server is. It does not notice that a container ended by itself.
func (s *dockerServer) Status() testcontainers.Status {
	return testcontainers.Status{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Pid: int(s.pid.Load())}
}

// Start creates the container, the first time, and starts it.
func (s *dockerServer) Start(ctx context.Context) error {
	if s.container == nil {
		if err := s.create(ctx); err != nil {
			return fmt.Errorf("create container of %s: %w", Image, err)
		}
	} else if _, err := s.docker.ContainerStart(ctx, s.container.GetContainerID(), client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	state, err := s.container.State(ctx)
	if err != nil {
		return fmt.Errorf("inspect container: %w", err)
	}
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	s.pid.Store(int64(state.Pid))
	return nil
}

// create runs the container. Its port on this machine is fixed: Docker would choose another one
// at each start.
func (s *dockerServer) create(ctx context.Context) error {
	var err error
	if s.port, err = testcontainers.FreePort(ctx); err != nil {
		return err
	}
	inside, err := network.ParsePort("5432/tcp")
	if err != nil {
		return err
	}
	env := map[string]string{"POSTGRES_HOST_AUTH_METHOD": "trust", "POSTGRES_INITDB_ARGS": "--locale=C --encoding=UTF8"}
	if s.cfg.Password != "" {
		env["POSTGRES_HOST_AUTH_METHOD"], env["POSTGRES_PASSWORD"] = "scram-sha-256", s.cfg.Password
	}
	s.container, err = tc.Run(ctx, Image,
		tc.WithLogger(quiet{}),
		tc.WithEnv(env),
		tc.WithCmd(s.command()...),
		tc.WithExposedPorts("5432/tcp"),
		tc.WithHostConfigModifier(func(hc *container.HostConfig) {
			hc.PortBindings = network.PortMap{inside: {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(s.port)}}}
		}))
	return err
}

func (s *dockerServer) command() []string {
	settings := testcontainers.DefaultSettings()
	maps.Copy(settings, s.cfg.Settings)
	cmd := []string{"postgres"}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		cmd = append(cmd, "-c", name+"="+settings[name])
	}
	return cmd
}

// waitReady connects until it succeeds. While the image makes its cluster, no TCP port is open.
func (s *dockerServer) waitReady(ctx context.Context) error {
	url := fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", testcontainers.Superuser, s.Status().Address)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		cfg, err := pgconn.ParseConfig(url)
		if err != nil {
			return err
		}
		cfg.Password = s.cfg.Password
		conn, err := pgconn.ConnectConfig(ctx, cfg)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start server in Docker: not ready in time: %w", err)
		case <-tick.C:
		}
	}
}

// Stop sends the server, which is the container's first process, what pg_ctl would.
func (s *dockerServer) Stop(ctx context.Context, mode string) error {
	signal, ok := map[string]string{"smart": "SIGTERM", "fast": "SIGINT", "immediate": "SIGQUIT", "kill": "SIGKILL"}[mode]
	if !ok {
		return fmt.Errorf("stop server: unknown mode %q: use smart, fast, immediate or kill", mode)
	}
	if s.pid.Load() == 0 {
		return nil
	}
	id := s.container.GetContainerID()
	if _, err := s.docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal}); err != nil {
		return fmt.Errorf("stop server (%s): %w", mode, err)
	}
	wait := s.docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-wait.Result:
		s.pid.Store(0)
		return nil
	case err := <-wait.Error:
		return fmt.Errorf("stop server (%s): still running: %w", mode, err)
	}
}

// Remove ends and removes the container with its data.
func (s *dockerServer) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var err error
	if s.container != nil {
		err = s.container.Terminate(ctx, tc.StopTimeout(0))
	}
	s.pid.Store(0)
	return errors.Join(err, s.docker.Close())
}

// quiet drops what testcontainers-go tells of its progress.
type quiet struct{}

var _ log.Logger = quiet{}

// Printf drops a line.
func (quiet) Printf(string, ...any) {}
