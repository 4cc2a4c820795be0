package annotation

import "strings"

// names are the directives', in the order of the reference.
var names = []string{"subscribe", "omit", "name", "key", "deprecated"}

func isOurs(name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// misspelt gives the directive that a name is one edit, or only its case, away from; "" for all
// others.
func misspelt(name string) string { return nearest(name, names) }

func nearest(name string, options []string) string {
	for _, n := range options {
		if n != name && (strings.EqualFold(n, name) || oneEdit(name, n)) {
			return n
		}
	}
	return ""
}

// oneEdit tells whether a becomes b by inserting, deleting or replacing one character, or by
// swapping two neighbours.
func oneEdit(a, b string) bool {
	x, y := []rune(a), []rune(b)
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	switch {
	case len(x)+len(y) == 1, len(x) == 1 && len(y) == 1:
		return true
	}
	return len(x) == 2 && len(y) == 2 && x[0] == y[1] && x[1] == y[0]
}
