package arch

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The table in docs/security.md has every hazard of security.md, and names tests that there are.
func TestTheTableOfHazardsNamesTestsThatThereAre(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)`)
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	there := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return cmp.Or(err, fs.SkipDir)
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([SR]\d\d) \| (.+) \|$`).FindAllStringSubmatch(read("docs/security.md"), -1) {
		rows[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([SR]\d\d) `).FindAllStringSubmatch(read("docs/hazards/security.md"), -1) {
		if rows[m[1]] == "" {
			t.Errorf("docs/security.md says nothing of %s", m[1])
		}
	}
	for hazard, row := range rows {
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(row, -1) {
			if !there[name[1]] {
				t.Errorf("%s: there is no %s", hazard, name[1])
			}
		}
	}
}
