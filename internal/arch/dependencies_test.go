package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Covers S70.
func TestEveryModuleOfTheBinaryWasReviewed(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	var reviewed []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z][^ ]*\.[^ ]*) \|`).FindAllStringSubmatch(string(text), -1) {
		reviewed = append(reviewed, m[1])
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/rowtide")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := slices.Compact(slices.Sorted(strings.FieldsSeq(string(out))))
	for _, m := range linked {
		if m != module && !slices.Contains(reviewed, m) {
			t.Errorf("%s is linked into the binary and not in docs/dependencies.md: read what it does with what clients send, and say so there", m)
		}
	}
	for _, m := range reviewed {
		if !slices.Contains(linked, m) {
			t.Errorf("docs/dependencies.md lists %s, which the binary does not have", m)
		}
	}
}
