package schema

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
)

// variables reads and coerces the variables (specification, 6.1.2). Numbers stay json.Number: a
// Decimal has more digits than a float64.
//
// gqlparser's own VariableValues visits every field of an input type for every object, which a
// client can make dear; it also takes numbers for strings and enum values in any case.
func (r *Role) variables(op *ast.OperationDefinition, raw json.RawMessage) (map[string]any, error) {
	given, err := r.options.Limits.decode(bytes.TrimSpace(raw))
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(op.VariableDefinitions))
	for _, v := range op.VariableDefinitions {
		path := "variable $" + v.Variable
		value, ok := given[v.Variable]
		switch {
		case ok:
			if out[v.Variable], err = r.coerce(v.Type, value, path); err != nil {
				return nil, err
			}
		case v.DefaultValue != nil:
			out[v.Variable] = literal(v.DefaultValue, nil)
		case v.Type.NonNull:
			return nil, badInput("%s: must be given", path)
		}
	}
	return out, nil
}

// decode reads the JSON of variables.
func (l *Limits) decode(raw []byte) (map[string]any, error) {
	if len(raw) > l.VariableBytes {
		return nil, limitError("the variables have %d bytes; %d are allowed", len(raw), l.VariableBytes)
	}
	if !l.shallow(raw) {
		return nil, limitError("the variables nest deeper than %d levels", l.Depth)
	}
	out := map[string]any{}
	if len(raw) == 0 || string(raw) == "null" {
		return out, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&out); err != nil || d.InputOffset() != int64(len(raw)) {
		return nil, badInput("the variables are not a JSON object")
	}
	return out, nil
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

// coerce checks a value against an input type.
func (r *Role) coerce(t *ast.Type, v any, path string) (any, error) {
	switch {
	case v == nil && t.NonNull:
		return nil, badInput("%s: must not be null", path)
	case v == nil:
		return nil, nil //nolint:nilnil // null is a value
	case t.Elem != nil:
		return r.coerceList(t.Elem, v, path)
	}
	def := r.schema.Types[t.NamedType]
	if def.Kind == ast.InputObject {
		return r.coerceObject(def, v, path)
	}
	if !fits(def, v) {
		return nil, badInput("%s: want a value of type %s", path, def.Name)
	}
	return v, nil
}

// coerceList takes a single value for a list of one (specification, 3.11).
func (r *Role) coerceList(elem *ast.Type, v any, path string) (any, error) {
	list, ok := v.([]any)
	if !ok {
		item, err := r.coerce(elem, v, path)
		return []any{item}, err
	}
	for i, item := range list {
		item, err := r.coerce(elem, item, path+"["+strconv.Itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		list[i] = item
	}
	return list, nil
}

// coerceObject takes each member that is given; no input type of ours has required ones.
func (r *Role) coerceObject(def *ast.Definition, v any, path string) (any, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil, badInput("%s: want an object of type %s", path, def.Name)
	}
	for _, name := range sortedKeys(object) {
		field := def.Fields.ForName(name)
		if field == nil {
			return nil, badInput("%s: type %s has no field %q", path, def.Name, clip(name))
		}
		item, err := r.coerce(field.Type, object[name], path+"."+name)
		if err != nil {
			return nil, err
		}
		object[name] = item
	}
	return object, nil
}

// fits tells whether JSON is a value of a scalar or an enum. What custom scalars take, the
// columns say.
func fits(def *ast.Definition, v any) bool {
	if def.Kind == ast.Enum {
		s, ok := v.(string)
		return ok && def.EnumValues.ForName(s) != nil
	}
	switch v := v.(type) {
	case bool:
		return def.Name == "Boolean" || !isStandard(def.Name)
	case string:
		return def.Name == "String" || def.Name == "ID" || !isStandard(def.Name)
	case json.Number:
		_, err := strconv.ParseInt(v.String(), 10, 32)
		return def.Name == "Float" || (def.Name == "Int" || def.Name == "ID") && err == nil || !isStandard(def.Name)
	}
	return !isStandard(def.Name)
}

// isStandard tells the scalars of the specification (3.5).
func isStandard(name string) bool {
	switch name {
	case "Int", "Float", "String", "Boolean", "ID":
		return true
	}
	return false
}
