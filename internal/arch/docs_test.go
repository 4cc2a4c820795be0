package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheLinksOfTheDocumentation follows every link between the pages, headings included.
func TestTheLinksOfTheDocumentation(t *testing.T) {
	root := filepath.Join("..", "..")
	pages := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "testdata"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		pages++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			checkLink(t, path, link[1]+link[2])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 15 {
		t.Errorf("only %d pages were found", pages)
	}
}

func checkLink(t *testing.T, page, link string) {
	t.Helper()
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return
	}
	file, heading, _ := strings.Cut(link, "#")
	target := page
	if file != "" {
		target = filepath.Join(filepath.Dir(page), file)
	}
	text, err := os.ReadFile(target)
	if info, statErr := os.Stat(target); err != nil && (statErr != nil || !info.IsDir()) {
		t.Errorf("%s: %s leads nowhere", page, link)
		return
	}
	if heading == "" {
		return
	}
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		if anchor(h[1]) == heading {
			return
		}
	}
	t.Errorf("%s: %s has no such heading", page, link)
}

// anchor is how GitHub names a heading.
func anchor(heading string) string {
	heading = strings.ToLower(heading)
	heading = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(heading, "")
	return strings.ReplaceAll(heading, " ", "-")
}
