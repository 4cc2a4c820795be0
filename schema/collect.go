package schema

import "github.com/vektah/gqlparser/v2/ast"

// A field is what the fields of one response key come to: the specification's collected fields
// (6.3.2), merged.
type field struct {
	key       string
	name      string
	arguments ast.ArgumentList
	sets      []ast.SelectionSet
	node      *ast.Field // the first
}

// A collector collects fields, with the variables that @skip and @include want.
type collector struct {
	vars map[string]any
}

// collect gives the fields of selection sets on an object type, in the order of the first
// mention of each response key. The document is valid, so fields of one key agree.
func (c *collector) collect(typeName string, sets ...ast.SelectionSet) []*field {
	w := collectWalk{vars: c.vars, typeName: typeName, index: map[string]int{}, seen: map[string]bool{}}
	for _, s := range sets {
		w.set(s)
	}
	return w.fields
}

type collectWalk struct {
	vars     map[string]any
	typeName string
	fields   []*field
	index    map[string]int
	seen     map[string]bool // fragments
}

func (w *collectWalk) set(set ast.SelectionSet) {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			if included(s.Directives, w.vars) {
				w.add(s)
			}
		case *ast.InlineFragment:
			if included(s.Directives, w.vars) && (s.TypeCondition == "" || s.TypeCondition == w.typeName) {
				w.set(s.SelectionSet)
			}
		case *ast.FragmentSpread:
			if w.seen[s.Name] || s.Definition == nil || !included(s.Directives, w.vars) {
				continue
			}
			w.seen[s.Name] = true
			if s.Definition.TypeCondition == w.typeName {
				w.set(s.Definition.SelectionSet)
			}
		}
	}
}

func (w *collectWalk) add(s *ast.Field) {
	i, ok := w.index[s.Alias]
	if !ok {
		i = len(w.fields)
		w.index[s.Alias] = i
		w.fields = append(w.fields, &field{key: s.Alias, name: s.Name, arguments: s.Arguments, node: s})
	}
	if len(s.SelectionSet) > 0 {
		w.fields[i].sets = append(w.fields[i].sets, s.SelectionSet)
	}
}

// included judges @skip and @include.
func included(directives ast.DirectiveList, vars map[string]any) bool {
	for _, d := range directives {
		a := d.Arguments.ForName("if")
		if a == nil {
			continue
		}
		yes, _ := literal(a.Value, vars).(bool)
		if d.Name == "skip" && yes || d.Name == "include" && !yes {
			return false
		}
	}
	return true
}
