package testcontainers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BinDirEnv names the environment variable that says where the server binaries are. Where it is
// set nothing else is searched.
const BinDirEnv = "ROWTIDE_TEST_PG_BINDIR"

// MinVersion is the oldest major version of PostgreSQL that Rowtide works with.
const MinVersion = 15

// Binaries are the server programs of one PostgreSQL installation.
type Binaries struct {
	// Dir is the folder that holds initdb and postgres.
	Dir string
	// Version is the major version: 15, 16, …
	Version int
}

// NotFoundError says that no usable server binaries were found, where they were looked for and
// what to do. Its text is one line.
type NotFoundError struct {
	// Looked has one entry a place, in the order of the search, with what was wrong there.
	Looked []string
}

// Error tells the fix first and then the places.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("find PostgreSQL server binaries (initdb and postgres, %d or newer): none found; "+
		"run: apt-get install postgresql (macOS: brew install postgresql@17), or set %s; looked at %s",
		MinVersion, BinDirEnv, strings.Join(e.Looked, ", "))
}

// Find searches the server binaries: the folder that ROWTIDE_TEST_PG_BINDIR names, and only there
// where it is set; else PATH, `pg_config --bindir`, Debian's folders and Homebrew's, newest first.
// The error is a *NotFoundError.
func Find(ctx context.Context) (Binaries, error) {
	return newFinder().find(ctx, "")
}

// A finder searches. Its fields are what it asks of the machine, so that a test can answer.
type finder struct {
	getenv   func(string) string
	lookPath func(string) (string, error)
	output   func(ctx context.Context, name string, args ...string) (string, error)
	glob     func(string) ([]string, error)

	looked []string
}

func newFinder() *finder {
	return &finder{
		getenv:   os.Getenv,
		lookPath: exec.LookPath,
		output: func(ctx context.Context, name string, args ...string) (string, error) {
			out, err := exec.CommandContext(ctx, name, args...).Output()
			return strings.TrimSpace(string(out)), err
		},
		glob: filepath.Glob,
	}
}

// find looks in the folder dir alone where one is asked for.
func (f *finder) find(ctx context.Context, dir string) (Binaries, error) {
	if dir == "" {
		dir = f.getenv(BinDirEnv)
	}
	if dir != "" {
		if b, ok := f.try(ctx, dir, dir); ok {
			return b, nil
		}
		return Binaries{}, &NotFoundError{Looked: f.looked}
	}
	for _, search := range []func(context.Context) (Binaries, bool){f.inPath, f.byPgConfig, f.inKnownFolders} {
		if b, ok := search(ctx); ok {
			return b, nil
		}
	}
	return Binaries{}, &NotFoundError{Looked: f.looked}
}

func (f *finder) inPath(ctx context.Context) (Binaries, bool) {
	p, err := f.lookPath("postgres")
	if err != nil {
		return f.miss("PATH")
	}
	return f.try(ctx, "PATH", filepath.Dir(p))
}

func (f *finder) byPgConfig(ctx context.Context) (Binaries, bool) {
	dir, err := f.output(ctx, "pg_config", "--bindir")
	if err != nil {
		return f.miss("pg_config --bindir")
	}
	return f.try(ctx, "pg_config --bindir", dir)
}

// inKnownFolders tries the folders of Debian and of Homebrew (on Apple's and on Intel's chips).
func (f *finder) inKnownFolders(ctx context.Context) (Binaries, bool) {
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	} {
		dirs, err := f.glob(pattern)
		if err != nil || len(dirs) == 0 {
			f.miss(pattern)
			continue
		}
		slices.SortFunc(dirs, func(a, b string) int { return folderVersion(b) - folderVersion(a) })
		for _, dir := range dirs {
			if b, ok := f.try(ctx, dir, dir); ok {
				return b, true
			}
		}
	}
	return Binaries{}, false
}

// folderVersion reads 15 from /usr/lib/postgresql/15/bin and from …/postgresql@15/bin.
func folderVersion(dir string) int {
	name := filepath.Base(filepath.Dir(dir))
	n, err := strconv.Atoi(strings.TrimPrefix(name, "postgresql@"))
	if err != nil {
		return 0
	}
	return n
}

// try judges a folder: both programs are there, they run, and they are new enough.
func (f *finder) try(ctx context.Context, place, dir string) (Binaries, bool) {
	if place != dir {
		place += " (" + dir + ")"
	}
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := f.lookPath(filepath.Join(dir, name)); err != nil {
			return f.miss(place + ": no " + name)
		}
	}
	line, err := f.output(ctx, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return f.miss(fmt.Sprintf("%s: postgres --version: %v", place, err))
	}
	version, err := majorVersion(line)
	if err != nil {
		return f.miss(place + ": " + err.Error())
	}
	if version < MinVersion {
		return f.miss(fmt.Sprintf("%s: version %d is too old", place, version))
	}
	return Binaries{Dir: dir, Version: version}, true
}

func (f *finder) miss(what string) (Binaries, bool) {
	f.looked = append(f.looked, what)
	return Binaries{}, false
}

// majorVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "… 18beta1".
func majorVersion(line string) (int, error) {
	m := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindStringSubmatch(line)
	if m == nil {
		return 0, errors.New("unknown version " + strconv.Quote(line))
	}
	return strconv.Atoi(m[1])
}
