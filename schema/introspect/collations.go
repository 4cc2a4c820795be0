package introspect

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// folding asks of each collation whether it puts the letters of ASCII into lower case as English
// does: Turkish does not. Texts of ASCII alone can then be compared without regard to case in
// process; for all others PostgreSQL is asked each time.
func (r *reader) folding(ctx context.Context, columns map[uint32][]column) error {
	names := map[string]bool{}
	for _, list := range columns {
		for i := range list {
			names[list[i].Collation] = true
		}
	}
	delete(names, "")
	if len(names) == 0 {
		return nil
	}
	sorted := slices.Sorted(maps.Keys(names))
	asks := make([]string, len(sorted))
	for i, name := range sorted {
		asks[i] = "lower($1::text COLLATE " + name + ") COLLATE \"C\""
	}
	var answers []string
	err := r.tx.QueryRow(ctx, "SELECT ARRAY["+strings.Join(asks, ", ")+"]", asciiLetters).Scan(&answers)
	if err != nil {
		return fmt.Errorf("collations: %w", err)
	}
	for i, name := range sorted {
		names[name] = answers[i] == asciiLower
	}
	for _, list := range columns {
		for i := range list {
			list[i].FoldsASCII = names[list[i].Collation]
		}
	}
	return nil
}

const (
	asciiLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	asciiLower   = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
)
