package doctor_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTroubleshootingQuotesWhatIsReallySaid looks each message of the page up in the sources.
func TestTroubleshootingQuotesWhatIsReallySaid(t *testing.T) {
	t.Parallel()
	root := os.DirFS("../..")
	var sources strings.Builder
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "mistakes.golden") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(root, path)
		sources.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := fs.ReadFile(root, "docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile(`(?m)^\*\*([^*]+)\*\* —`).FindAllStringSubmatch(string(page), -1)
	if len(quoted) < 15 {
		t.Fatalf("only %d messages are found on the page", len(quoted))
	}
	for _, q := range quoted {
		if !strings.Contains(sources.String(), q[1]) {
			t.Errorf("nobody says %q", q[1])
		}
	}
}
