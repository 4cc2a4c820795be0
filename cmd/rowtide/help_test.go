package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestHelpIsAnAnswerAndNoError asks for help in each way: it comes on standard output, alone.
func TestHelpIsAnAnswerAndNoError(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                  "demo ",
		"--help":            "demo ",
		"serve --help":      "--database-url",
		"migrate --help":    "migrate down",
		"migrate up --help": "--dry-run",
	} {
		var out, said bytes.Buffer
		if err := run(t.Context(), strings.Fields(args), &out, &said); err != nil {
			t.Errorf("rowtide %s: %v", args, err)
		}
		if said.Len() > 0 || !strings.Contains(out.String(), want) || !strings.HasPrefix(out.String(), "Usage: rowtide") {
			t.Errorf("rowtide %s prints\n%s%s", args, &said, &out)
		}
	}
}
