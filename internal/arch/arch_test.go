package arch

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A graph has the imports of each package, by its path in the module.
type graph map[string]*imports

// imports are full import paths, each with a file that has it.
type imports struct {
	code, tests map[string]string
}

// TestArrows holds the source to the table.
func TestArrows(t *testing.T) {
	t.Parallel()
	g, err := load(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(g) < 10 || g["cdc"] == nil || g["."] == nil {
		t.Fatalf("read %d packages: this is not the module", len(g))
	}
	for _, v := range check(g, table) {
		t.Error(v)
	}
}

// TestTableKeepsThePrinciples holds the table itself to DESIGN, so that a new line cannot undo it.
func TestTableKeepsThePrinciples(t *testing.T) {
	t.Parallel()
	for _, v := range checkTable(table) {
		t.Error(v)
	}
}

// load reads the imports of every Go file below dir, whatever system it is for. It leaves out
// what the go command leaves out, and modules of their own.
func load(dir string) (graph, error) {
	g := graph{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != dir && notOurs(file) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return g.read(file, filepath.ToSlash(rel))
	})
	return g, err
}

func notOurs(dir string) bool {
	name := filepath.Base(dir)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func (g graph) read(file, rel string) error {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	p := g.pkg(path.Dir(rel))
	to := p.code
	if strings.HasSuffix(rel, "_test.go") {
		to = p.tests
	}
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		to[name] = rel
	}
	return nil
}

func (g graph) pkg(name string) *imports {
	if g[name] == nil {
		g[name] = &imports{code: map[string]string{}, tests: map[string]string{}}
	}
	return g[name]
}

// check compares a graph with the rules and gives one line for each arrow that must not be.
func check(g graph, rules []rule) []string {
	var out []string
	for name, imp := range g {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.pkg == name })
		if i < 0 {
			out = append(out, fmt.Sprintf("package %s is not in the table of internal/arch: add its line", name))
			continue
		}
		for what, file := range imp.code {
			out = appendIf(out, rules[i].code(what, rules), file, what)
		}
		for what, file := range imp.tests {
			out = appendIf(out, rules[i].test(what), file, what)
		}
	}
	out = append(out, checkLinked(rules)...)
	slices.Sort(out)
	return out
}

func appendIf(out []string, complaint, file, what string) []string {
	if complaint == "" {
		return out
	}
	return append(out, fmt.Sprintf("%s imports %s: %s", file, what, complaint))
}

// code says what is wrong with an import in a file that is no test; nothing where all is well.
func (r rule) code(what string, rules []rule) string {
	if p, ok := own(what); ok {
		switch {
		case !allows(r.ours, p):
			return "the table of internal/arch has no such arrow"
		case r.linked && slices.ContainsFunc(rules, func(o rule) bool { return o.pkg == p && !o.linked }):
			return "it is for tests, and the binary would contain it"
		}
		return ""
	}
	if what == "testing" && r.linked {
		return "only tests may"
	}
	if !isStd(what) && r.outside != nil && !slices.ContainsFunc(r.outside, func(m string) bool { return within(what, m) }) {
		return "it may not import this module"
	}
	if within(what, "github.com/testcontainers/testcontainers-go") && r.pkg != "testcontainers/pgtest" {
		return "only testcontainers/pgtest may"
	}
	return ""
}

func (r rule) test(what string) string {
	p, ok := own(what)
	if !ok || p == r.pkg || slices.Contains(testOnly, p) || allows(r.ours, p) || allows(r.tests, p) {
		return ""
	}
	return "the table of internal/arch has no such arrow for tests"
}

// checkLinked finds lines that would link a package for tests into the service.
func checkLinked(rules []rule) []string {
	linked := map[string]bool{}
	for _, r := range rules {
		linked[r.pkg] = r.linked
	}
	var out []string
	for _, r := range rules {
		for _, p := range r.ours {
			if r.linked && p != "*" && !linked[p] {
				out = append(out, fmt.Sprintf("the table lets %s import %s, which is for tests or not in it", r.pkg, p))
			}
		}
	}
	return out
}

// checkTable finds arrows that DESIGN forbids whatever the table says.
func checkTable(rules []rule) []string {
	var out []string
	for i, r := range rules {
		for _, p := range r.ours {
			if p == "*" {
				continue
			}
			above := slices.IndexFunc(rules, func(o rule) bool { return o.pkg == p })
			switch {
			case above < 0 || above >= i:
				out = append(out, fmt.Sprintf("%s imports %s, which does not stand above it", r.pkg, p))
			case r.pkg != "." && within(p, r.pkg) && !exceptions[[2]string{r.pkg, p}]:
				out = append(out, fmt.Sprintf("%s imports its subpackage %s", r.pkg, p))
			case siblings(r.pkg, p):
				out = append(out, fmt.Sprintf("%s imports its sibling %s", r.pkg, p))
			}
		}
	}
	return out
}

// siblings have one parent package. Folders that are no packages (cmd, internal) and the root
// make none.
func siblings(a, b string) bool {
	parent := path.Dir(a)
	return parent == path.Dir(b) && parent != "." && parent != "internal" && parent != "cmd"
}

func allows(list []string, p string) bool {
	return slices.Contains(list, p) || slices.Contains(list, "*")
}

// own gives the path in our module of an import.
func own(what string) (string, bool) {
	if what == module {
		return ".", true
	}
	return strings.CutPrefix(what, module+"/")
}

func within(what, parent string) bool { return what == parent || strings.HasPrefix(what, parent+"/") }

// isStd: the first part of any other module's path has a dot.
func isStd(what string) bool {
	first, _, _ := strings.Cut(what, "/")
	return !strings.Contains(first, ".")
}
