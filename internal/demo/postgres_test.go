package demo

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // what repositories have
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ulikunitz/xz"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A repository stands in for Maven's: its archive holds programs that call this machine's.
type repository struct {
	*httptest.Server
	jar    []byte
	broken bool // its checksum is another file's
	asked  atomic.Int32
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	bin, err := testcontainers.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &repository{jar: archive(t, map[string]string{
		"bin/postgres": "#!/bin/sh\nexec " + bin.Dir + "/postgres \"$@\"\n",
		"bin/initdb":   "#!/bin/sh\nexec " + bin.Dir + "/initdb \"$@\"\n",
		"share/README": "hello",
	})}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		sum := sha1.Sum(r.jar) //nolint:gosec // as above
		if r.broken {
			sum[0]++
		}
		name, ours := strings.CutPrefix(req.URL.Path, "/io/zonky/test/postgres/embedded-postgres-binaries-")
		path, kind, _ := strings.Cut(name, ".jar")
		switch {
		case !ours || !strings.Contains(path, "/17.5.0/embedded-postgres-binaries-"):
			w.WriteHeader(http.StatusNotFound)
		case kind == "":
			r.asked.Add(1)
			_, _ = w.Write(r.jar)
		case kind == ".sha1":
			_, _ = io.WriteString(w, hex.EncodeToString(sum[:])+"\n")
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// archive is a jar with a compressed tar in it.
func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var jar, packed bytes.Buffer
	x, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(x)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/link", Linkname: "postgres", Typeflag: tar.TypeSymlink}); err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(&jar)
	if err := errors.Join(w.Close(), x.Close()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"META-INF/MANIFEST.MF": "x", "postgres.txz": packed.String()} {
		f, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(f, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return jar.Bytes()
}

// openFolder is one that the server's user may enter too, where root runs the tests.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rowtide-demo-") //nolint:usetesting // t.TempDir is closed to others
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // as said above
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func noBinaries(context.Context) (*testcontainers.Cluster, error) {
	return nil, &testcontainers.NotFoundError{Looked: []string{"PATH"}}
}

// answers tells whether a cluster serves queries, and stops it.
func answers(t *testing.T, c *testcontainers.Cluster) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL(testcontainers.Superuser, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	var level string
	if err := conn.QueryRow(t.Context(), "SHOW wal_level").Scan(&level); err != nil || level != "logical" {
		t.Errorf("wal_level is %s: %v", level, err)
	}
	if err := errors.Join(conn.Close(t.Context()), c.Stop(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestPostgresIsDownloadedOnceAndKept(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	cfg := PostgresConfig{Choice: Download, Repository: r.URL, CacheDir: openFolder(t), Out: io.Discard}
	for range 2 {
		c, err := startPostgres(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		answers(t, c)
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("it was downloaded %d times", n)
	}
}

func TestADownloadThatIsNotWhatWasPromisedIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm func(*repository)
		want string
	}{
		"another checksum": {func(r *repository) { r.broken = true }, "its checksum is not the one"},
		"no archive in it": {func(r *repository) { r.jar = r.jar[:len(r.jar)/2] }, "zip: not a valid zip file"},
		"another path":     {func(r *repository) { r.jar = archive(t, map[string]string{"../../evil": "x"}) }, "path escapes from parent"},
		"no repository":    {func(r *repository) { r.URL += "/nowhere" }, "the repository answered 404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			c.harm(r)
			cache := openFolder(t)
			_, err := startPostgres(t.Context(), PostgresConfig{Choice: Download, Repository: r.URL, CacheDir: cache})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if left, err := os.ReadDir(cache); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// TestThePostgresOfTheDemo takes this machine's binaries first, then Docker, then the download,
// and says all three where none can be had.
func TestThePostgresOfTheDemo(t *testing.T) {
	t.Setenv(testcontainers.BinDirEnv, "")
	_ = os.Unsetenv(testcontainers.BinDirEnv)
	r := newRepository(t)
	cfg := PostgresConfig{Choice: Auto, Repository: r.URL, CacheDir: openFolder(t), Out: io.Discard}
	log := fakeDocker(t)

	c, err := startPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c.Dir() == "" {
		t.Error("it is not the machine's own")
	}
	answers(t, c)

	cfg.local = noBinaries
	stop := forward(t, log)
	if c, err = startPostgres(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	answers(t, c)
	stop()
	if said := readFile(t, log); !strings.Contains(said, "run --detach --rm --name rowtide-demo-") || !strings.Contains(said, "\nrm --force --volumes rowtide-demo-") {
		t.Errorf("docker was told:\n%s", said)
	}
	if n := r.asked.Load(); n != 0 {
		t.Error("it was downloaded although there is Docker")
	}

	t.Setenv("PATH", "/nowhere")
	if c, err = startPostgres(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("it was downloaded %d times", n)
	}
	t.Setenv("PATH", "/usr/bin:/bin")
	answers(t, c)

	t.Setenv("PATH", "/nowhere")
	cfg.CacheDir, cfg.Repository = openFolder(t), "http://127.0.0.1:1"
	_, err = startPostgres(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "install its server") || !strings.Contains(err.Error(), "or Docker (it is not installed)") ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v", err)
	}
	t.Setenv(testcontainers.BinDirEnv, "/nowhere")
	var missing *testcontainers.NotFoundError
	if _, err = startPostgres(t.Context(), cfg); !errors.As(err, &missing) {
		t.Errorf("who names binaries that are not there gets %v", err)
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// fakeDocker puts a program in front of PATH that notes what it is told: what it would run, forward
// gives.
func fakeDocker(t *testing.T) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >> %s\n", log)
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return log
}

// forward listens, as soon as docker was told to, at the port that it was told, and hands what
// comes on to a real server.
func forward(t *testing.T, log string) (stop func()) {
	t.Helper()
	server, err := url.Parse(pgtest.New(t).Admin)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if m := regexp.MustCompile(`--publish (\S+):5432`).FindStringSubmatch(readFile(t, log)); m != nil {
				proxy(ctx, t, m[1], server.Host)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func proxy(ctx context.Context, t *testing.T, at, to string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		t.Error(err)
		return
	}
	go func() { <-ctx.Done(); _ = l.Close() }()
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		go func() { _, _ = io.Copy(server, from); _ = server.Close() }()
		go func() { _, _ = io.Copy(from, server); _ = from.Close() }()
	}
}
