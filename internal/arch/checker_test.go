package arch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// made is a graph of one file, pkg's, with one import.
func made(pkg, file, what string) graph {
	g := graph{}
	p := g.pkg(pkg)
	if strings.HasSuffix(file, "_test.go") {
		p.tests[what] = file
	} else {
		p.code[what] = file
	}
	return g
}

// The checker finds every kind of arrow that must not be, and lets the others pass.
func TestCheckerFindsForbiddenArrows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pkg, file, what string
		complaint       string // empty: allowed
	}{
		"child to parent":                 {"cdc/fold", "cdc/fold/a.go", module + "/cdc", ""},
		"parent to child":                 {"cdc", "cdc/a.go", module + "/cdc/fold", "no such arrow"},
		"fanout to its bus":               {"fanout", "fanout/a.go", module + "/fanout/bus", ""},
		"fanout to a transport":           {"fanout", "fanout/a.go", module + "/fanout/graphqlws", "no such arrow"},
		"sibling to sibling":              {"cdc/fold", "cdc/fold/a.go", module + "/cdc/pgoutput", "no such arrow"},
		"sibling in a test":               {"cdc/fold", "cdc/fold/a_test.go", module + "/cdc/pgoutput", "no such arrow"},
		"right to left":                   {"schema", "schema/a.go", module + "/authz", "no such arrow"},
		"anything to the root":            {"fanout", "fanout/a.go", module, "no such arrow"},
		"standard library in cdc":         {"cdc", "cdc/a.go", "time", ""},
		"another module in cdc":           {"cdc", "cdc/a.go", "github.com/jackc/pgx/v5", "may not import this module"},
		"another module in cdc's tests":   {"cdc", "cdc/a_test.go", "pgregory.net/rapid", ""},
		"pgx in migrations":               {"migrations", "migrations/a.go", "github.com/jackc/pgx/v5/pgconn", ""},
		"a web server in migrations":      {"migrations", "migrations/a.go", "github.com/coder/websocket", "may not import this module"},
		"testing in the root":             {".", "a.go", "testing", "only tests may"},
		"testing in a test":               {".", "a_test.go", "testing", ""},
		"testing in pgtest":               {"testcontainers/pgtest", "testcontainers/pgtest/a.go", "testing", ""},
		"testcontainers in the command":   {"cmd/rowtide", "cmd/rowtide/demo.go", module + "/testcontainers", ""},
		"pgtest in the command":           {"cmd/rowtide", "cmd/rowtide/demo.go", module + "/testcontainers/pgtest", "for tests"},
		"testcontainers in the root":      {".", "a.go", module + "/testcontainers", "no such arrow"},
		"pgtest in a test":                {"cdc/replication", "cdc/replication/a_test.go", module + "/testcontainers/pgtest", ""},
		"pgtest outside a test":           {"cdc/replication", "cdc/replication/a.go", module + "/testcontainers/pgtest", "no such arrow"},
		"Docker in testcontainers":        {"testcontainers", "testcontainers/a.go", "github.com/testcontainers/testcontainers-go", "may not import"},
		"Docker in a package of any kind": {".", "a.go", "github.com/testcontainers/testcontainers-go/wait", "only testcontainers/pgtest"},
		"package that nobody listed":      {"util", "util/a.go", "time", "not in the table"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := check(made(c.pkg, c.file, c.what), table)
			if c.complaint == "" {
				if len(got) != 0 {
					t.Errorf("complains: %v", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], c.complaint) {
				t.Errorf("got %q, want one complaint with %q", got, c.complaint)
			}
		})
	}
}

// A line in the table that DESIGN forbids is found too.
func TestCheckerFindsForbiddenLines(t *testing.T) {
	t.Parallel()
	line := func(pkg string, ours ...string) []rule {
		return append(slices.Clone(table), rule{pkg: pkg, ours: ours, linked: true})
	}
	for name, c := range map[string]struct {
		rules     []rule
		complaint string
	}{
		"sibling":            {line("cdc/other", "cdc/fold"), "its sibling"},
		"subpackage":         {line("cdc", "cdc/fold"), "its subpackage"},
		"unknown":            {line("cdc/other", "nowhere"), "does not stand above"},
		"for tests, in code": {line("fanout/other", "fanout/bus/bustest"), "for tests"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := append(checkTable(c.rules), checkLinked(c.rules)...)
			if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.complaint) }) {
				t.Errorf("got %q, want a complaint with %q", got, c.complaint)
			}
		})
	}
}

// The reader leaves out what is no part of the module, and sees files for other systems.
func TestLoadReadsTheModuleAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for file, text := range map[string]string{
		"a/a_windows.go":      "package a\n\nimport _ \"os\"\n",
		"a/a_test.go":         "package a\n\nimport _ \"testing\"\n",
		"a/testdata/x.go":     "package x",
		"other/go.mod":        "module other\n",
		"other/x.go":          "package x",
		"_hidden/x.go":        "package x",
		".hidden/x.go":        "package x",
		"node_modules/e/x.go": "package x",
		"a/read.me":           "no Go",
	} {
		file = filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(g) != 1 || g["a"] == nil {
		t.Fatalf("packages %v", g)
	}
	if g["a"].code["os"] == "" || g["a"].tests["testing"] == "" || g["a"].code["testing"] != "" {
		t.Errorf("imports of a: %+v", g["a"])
	}
}
