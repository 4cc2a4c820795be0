package demo

import (
	"archive/tar"
	"archive/zip"
	"context"
	"crypto/sha1" //nolint:gosec // the one checksum that every Maven repository has
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ulikunitz/xz"

	"github.com/rowtide/rowtide/internal/progress"
	"github.com/rowtide/rowtide/testcontainers"
)

const (
	mavenCentral = "https://repo1.maven.org/maven2"
	// postgresVersion is that of the binaries, in their own notation.
	postgresVersion = "17.5.0"
	// maxBinaries bounds what an archive may unpack to: they have some 60 MB.
	maxBinaries = 512 << 20
)

// startDownloaded starts binaries from the cache, which it fills first.
func startDownloaded(ctx context.Context, cfg PostgresConfig) (*testcontainers.Cluster, error) {
	platform, err := platform()
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir(cfg.CacheDir)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "postgres-"+postgresVersion+"-"+platform)
	if _, err := os.Stat(filepath.Join(dir, "bin", "postgres")); err != nil {
		if err := fetch(ctx, cfg, platform, dir); err != nil {
			return nil, err
		}
	}
	return testcontainers.Start(ctx, testcontainers.Config{BinDir: filepath.Join(dir, "bin"), Settings: settings()})
}

// cacheDir is where binaries are kept. The server of a demo that root runs is another user's, who
// must be able to enter it.
func cacheDir(dir string) (string, error) {
	if dir == "" && os.Getuid() == 0 {
		dir = "/var/cache/rowtide"
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache for PostgreSQL: %w", err)
		}
		dir = filepath.Join(user, "rowtide")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as said above
		return "", fmt.Errorf("make the cache for PostgreSQL: %w", err)
	}
	return dir, nil
}

// platform is this machine's name among the artifacts.
func platform() (string, error) {
	arch := runtime.GOARCH
	if arch == "arm64" {
		arch = "arm64v8"
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		arch += "-alpine"
	}
	switch runtime.GOOS + "-" + runtime.GOARCH {
	case "linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64":
		return runtime.GOOS + "-" + arch, nil
	}
	return "", fmt.Errorf("there are no PostgreSQL binaries to download for %s on %s", runtime.GOOS, runtime.GOARCH)
}

// fetch downloads the binaries into dir. Until all is there it is another folder: what is
// interrupted is never taken for the whole.
func fetch(ctx context.Context, cfg PostgresConfig, platform, dir string) error {
	repository := cfg.Repository
	if repository == "" {
		repository = mavenCentral
	}
	name := "embedded-postgres-binaries-" + platform
	url := fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%[2]s-%[3]s.jar", repository, name, postgresVersion)
	jar, err := os.CreateTemp("", "rowtide-postgres-*.jar")
	if err != nil {
		return fmt.Errorf("download PostgreSQL: %w", err)
	}
	defer os.Remove(jar.Name())
	defer jar.Close()
	if err := download(ctx, cfg.Out, url, jar); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "part-")
	if err != nil {
		return fmt.Errorf("unpack PostgreSQL: %w", err)
	}
	defer os.RemoveAll(part)
	if err := unpack(jar, part); err != nil {
		return fmt.Errorf("unpack PostgreSQL: %w", err)
	}
	if err := os.Chmod(part, 0o755); err != nil { //nolint:gosec // the server runs as another user where root starts it
		return fmt.Errorf("unpack PostgreSQL: %w", err)
	}
	if err := os.Rename(part, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("unpack PostgreSQL: %w", err)
	}
	return nil
}

// download gets a file and checks it against its checksum beside it.
func download(ctx context.Context, out io.Writer, url string, to io.Writer) error {
	resp, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	bar := progress.New(out, "Downloading PostgreSQL "+postgresVersion, resp.ContentLength)
	defer bar.Done()
	sums := map[string]hash.Hash{".sha256": sha256.New(), ".sha1": sha1.New()} //nolint:gosec // as said above
	if _, err := io.Copy(io.MultiWriter(to, bar, sums[".sha256"], sums[".sha1"]), resp.Body); err != nil {
		return fmt.Errorf("download %s: %w", url, err)
	}
	for _, kind := range []string{".sha256", ".sha1"} {
		want, err := checksum(ctx, url+kind)
		if err != nil {
			continue // not every repository has each
		}
		if got := hex.EncodeToString(sums[kind].Sum(nil)); got != want {
			return fmt.Errorf("download %s: its checksum is not the one that the repository names: try again", url)
		}
		return nil
	}
	return fmt.Errorf("download %s: the repository has no checksum of it", url)
}

func checksum(ctx context.Context, url string) (string, error) {
	resp, err := get(ctx, url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return "", err
	}
	return strings.ToLower(strings.TrimSpace(string(text))), nil
}

func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("download PostgreSQL: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("download PostgreSQL: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("download %s: the repository answered %s", url, resp.Status)
	}
	return resp, nil
}

// unpack finds the archive of the binaries in the jar, and unpacks it.
func unpack(jar *os.File, dir string) error {
	size, err := jar.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	files, err := zip.NewReader(jar, size)
	if err != nil {
		return err
	}
	for _, f := range files.File {
		if !strings.HasSuffix(f.Name, ".txz") {
			continue
		}
		packed, err := f.Open()
		if err != nil {
			return err
		}
		defer packed.Close()
		plain, err := xz.NewReader(packed)
		if err != nil {
			return err
		}
		return untar(tar.NewReader(io.LimitReader(plain, maxBinaries)), dir)
	}
	return errors.New("there are no binaries in it")
}

// untar writes files, folders and links below dir, and nothing outside of it.
func untar(from *tar.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg:
			err = writeFile(root, name, h.FileInfo().Mode().Perm()|0o444, from)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, mode os.FileMode, from io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
