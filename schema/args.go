package schema

import (
	"encoding/json"

	"github.com/vektah/gqlparser/v2/ast"
)

// literal gives a value of the document the form that JSON gives variables. A variable that has
// no value is absent from an object (specification, 3.10) and null in a list.
func literal(v *ast.Value, vars map[string]any) any {
	switch v.Kind {
	case ast.Variable:
		return vars[v.Raw]
	case ast.IntValue, ast.FloatValue:
		return json.Number(v.Raw)
	case ast.StringValue, ast.BlockValue, ast.EnumValue:
		return v.Raw
	case ast.BooleanValue:
		return v.Raw == "true"
	case ast.NullValue:
		return nil
	case ast.ListValue:
		list := make([]any, len(v.Children))
		for i, c := range v.Children {
			list[i] = literal(c.Value, vars)
		}
		return list
	case ast.ObjectValue:
		object := make(map[string]any, len(v.Children))
		for _, c := range v.Children {
			if c.Value.Kind == ast.Variable {
				if _, ok := vars[c.Value.Raw]; !ok {
					continue
				}
			}
			object[c.Name] = literal(c.Value, vars)
		}
		return object
	}
	return nil
}

// arguments reads those of a subscription's root field.
func (r *Role) arguments(op *Operation, t *roleTable, root *field, vars map[string]any) error {
	op.Kinds = t.Kinds
	for _, a := range root.arguments {
		if a.Value.Kind == ast.Variable {
			if _, ok := vars[a.Value.Raw]; !ok {
				continue // not given: as if the argument were not there
			}
		}
		v := literal(a.Value, vars)
		if v == nil {
			continue
		}
		var err error
		switch a.Name {
		case "where":
			op.Where, err = compileFilter(t, &r.options.Limits, v)
		case "kinds":
			op.Kinds, err = requestedKinds(t, v)
		case "snapshot":
			op.Snapshot, err = boolArgument(a.Name, v)
		case "progress":
			op.Progress, err = boolArgument(a.Name, v)
		case "after":
			s, ok := v.(string)
			if !ok || s == "" {
				err = badInput("after: want a cursor, as a string")
			}
			op.After = s
		}
		if err != nil {
			return err
		}
	}
	if op.Snapshot && !op.Kinds.Has(KindSnapshot) {
		return badInput("kinds: snapshot: true gives SNAPSHOT frames: add SNAPSHOT to the kinds")
	}
	return nil
}

func boolArgument(name string, v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, badInput("%s: want true or false", name)
	}
	return b, nil
}

// requestedKinds are the kinds asked for and those that no argument filters.
func requestedKinds(t *roleTable, v any) (KindSet, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v} // a single value is a list of one (specification, 3.11)
	}
	out := controlKinds
	for _, item := range list {
		s, _ := item.(string)
		k, ok := ParseChangeKind(s)
		if !ok {
			return 0, badInput("kinds: want a list of ChangeKind")
		}
		if !t.Kinds.Has(k) {
			return 0, badInput("kinds: %s gives no %s", t.Field, k)
		}
		out = out.With(k)
	}
	return out, nil
}
