package testcontainers

import (
	"context"
	"errors"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// A machine is what a finder can see: programs by their path, each with what it prints.
type machine struct {
	env      map[string]string
	path     string // the folder that PATH has
	programs map[string]string
}

func (m machine) finder() *finder {
	return &finder{
		getenv: func(name string) string { return m.env[name] },
		lookPath: func(name string) (string, error) {
			if !strings.Contains(name, "/") {
				name = path.Join(m.path, name)
			}
			if _, ok := m.programs[name]; !ok {
				return "", exec.ErrNotFound
			}
			return name, nil
		},
		output: func(_ context.Context, name string, _ ...string) (string, error) {
			out, ok := m.programs[name]
			if !ok {
				return "", exec.ErrNotFound
			}
			return out, nil
		},
		glob: func(pattern string) ([]string, error) {
			var dirs []string
			for p := range m.programs {
				if ok, _ := path.Match(pattern, path.Dir(p)); ok && path.Base(p) == "postgres" {
					dirs = append(dirs, path.Dir(p))
				}
			}
			return dirs, nil
		},
	}
}

// with adds an installation of a version.
func with(programs map[string]string, dir, version string) map[string]string {
	all := map[string]string{
		dir + "/initdb":   "initdb (PostgreSQL) " + version,
		dir + "/postgres": "postgres (PostgreSQL) " + version,
	}
	for k, v := range programs {
		all[k] = v
	}
	return all
}

func TestFindTakesTheFirstUsableInstallation(t *testing.T) {
	t.Parallel()
	debian := with(with(with(nil, "/usr/lib/postgresql/9/bin", "9.6.1"),
		"/usr/lib/postgresql/15/bin", "15.18 (Debian 15.18-0+deb12u1)"), "/usr/lib/postgresql/17/bin", "17.2")
	for name, c := range map[string]struct {
		machine machine
		ask     string
		want    Binaries
	}{
		"newest of Debian":   {machine{programs: debian}, "", Binaries{"/usr/lib/postgresql/17/bin", 17}},
		"what is asked for":  {machine{programs: debian}, "/usr/lib/postgresql/15/bin", Binaries{"/usr/lib/postgresql/15/bin", 15}},
		"PATH before Debian": {machine{programs: with(debian, "/opt/pg/bin", "16.1"), path: "/opt/pg/bin"}, "", Binaries{"/opt/pg/bin", 16}},
		"environment before PATH": {
			machine{
				programs: with(debian, "/opt/pg/bin", "16.1"), path: "/opt/pg/bin",
				env: map[string]string{BinDirEnv: "/usr/lib/postgresql/15/bin"},
			}, "", Binaries{"/usr/lib/postgresql/15/bin", 15},
		},
		"pg_config before Debian": {
			machine{programs: func() map[string]string {
				p := with(debian, "/srv/pg/bin", "18beta1")
				p["pg_config"] = "/srv/pg/bin"
				return p
			}()}, "", Binaries{"/srv/pg/bin", 18},
		},
		"too old in PATH": {
			machine{programs: debian, path: "/usr/lib/postgresql/9/bin"}, "", Binaries{"/usr/lib/postgresql/17/bin", 17},
		},
		"client only in PATH": {
			machine{programs: with(map[string]string{"/usr/bin/postgres": "x"}, "/usr/lib/postgresql/15/bin", "15.1"), path: "/usr/bin"},
			"",
			Binaries{"/usr/lib/postgresql/15/bin", 15},
		},
		"newest of Homebrew": {
			machine{programs: with(with(nil, "/opt/homebrew/opt/postgresql@16/bin", "16.3 (Homebrew)"), "/opt/homebrew/opt/postgresql@17/bin", "17.0 (Homebrew)")},
			"",
			Binaries{"/opt/homebrew/opt/postgresql@17/bin", 17},
		},
		"Homebrew on Intel": {
			machine{programs: with(nil, "/usr/local/opt/postgresql@15/bin", "15.3 (Homebrew)")}, "", Binaries{"/usr/local/opt/postgresql@15/bin", 15},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.machine.finder().find(t.Context(), c.ask)
			if err != nil || got != c.want {
				t.Errorf("found %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestFindTellsTheFixAndWhereItLooked(t *testing.T) {
	t.Parallel()
	old := with(nil, "/usr/lib/postgresql/13/bin", "13.4")
	_, err := machine{programs: old}.finder().find(t.Context(), "")
	var nf *NotFoundError
	if !errors.As(err, &nf) {
		t.Fatalf("error %T %v", err, err)
	}
	for _, want := range []string{
		"apt-get install postgresql", BinDirEnv, "PATH", "pg_config --bindir",
		"/usr/lib/postgresql/13/bin: version 13 is too old", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
}

// Where somebody says which binaries to use, others are no substitute.
func TestFindTakesNothingElseThanWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	m := machine{programs: with(nil, "/usr/lib/postgresql/15/bin", "15.1"), env: map[string]string{BinDirEnv: "/nowhere"}}
	if b, err := m.finder().find(t.Context(), ""); err == nil {
		t.Errorf("found %+v", b)
	}
}
