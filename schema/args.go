package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator"
)

// variables reads and coerces the variables. Numbers stay json.Number: a Decimal has more digits
// than a float64.
func (r *Role) variables(op *ast.OperationDefinition, raw json.RawMessage) (map[string]any, error) {
	given := map[string]any{}
	raw = bytes.TrimSpace(raw)
	if len(raw) > r.options.Limits.VariableBytes {
		return nil, limitError("the variables have %d bytes; %d are allowed", len(raw), r.options.Limits.VariableBytes)
	}
	if !r.options.Limits.shallow(raw) {
		return nil, limitError("the variables nest deeper than %d levels", r.options.Limits.Depth)
	}
	if len(raw) > 0 && string(raw) != "null" {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&given); err != nil || d.InputOffset() != int64(len(raw)) {
			return nil, badInput("the variables are not a JSON object")
		}
	}
	for _, v := range op.VariableDefinitions {
		if _, ok := given[v.Variable]; !ok && v.DefaultValue != nil {
			given[v.Variable] = literal(v.DefaultValue, nil)
		}
	}
	out, err := validator.VariableValues(r.schema, op, given)
	if err != nil {
		return nil, clientErrors(gqlerror.List{variableError(err)}, BadUserInput)
	}
	for name, v := range out {
		out[name] = normalize(v)
	}
	return out, nil
}

// normalize gives coerced values the form of literal: gqlparser makes typed slices of single
// values, and integers of numbers.
func normalize(v any) any {
	switch v := v.(type) {
	case nil, string, bool, json.Number:
		return v
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	case float64:
		return json.Number(strconv.FormatFloat(v, 'g', -1, 64))
	case map[string]any:
		for k, item := range v {
			v[k] = normalize(item)
		}
		return v
	}
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Slice {
		return v
	}
	list := make([]any, r.Len())
	for i := range list {
		list[i] = normalize(r.Index(i).Interface())
	}
	return list
}

func variableError(err error) *gqlerror.Error {
	e := *asGraphQL(err)
	path := ""
	for _, p := range e.Path[min(1, len(e.Path)):] {
		switch p := p.(type) {
		case ast.PathName:
			if path != "" {
				path += "."
			}
			path += string(p)
		case ast.PathIndex:
			path += "[" + strconv.Itoa(int(p)) + "]"
		}
	}
	e.Message, e.Path = fmt.Sprintf("variable $%s: %s", path, e.Message), nil
	return &e
}

// shallow tells whether JSON nests no deeper than the limit. It reads brackets outside strings
// and nothing else: whether the rest is JSON, the decoder says.
func (l *Limits) shallow(raw []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > l.Depth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

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
