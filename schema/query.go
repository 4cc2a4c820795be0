package schema

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// maxQueryResult bounds what a query writes: introspection can be asked for the same many times
// over.
const maxQueryResult = 8 << 20

// query executes a query: server information and introspection.
func (r *Role) query(op *ast.OperationDefinition, vars map[string]any) (*Operation, error) {
	e := &executor{collector: collector{vars: vars}, out: []byte(`{"data":`)}
	for _, f := range e.collector.collect("Query", op.SelectionSet) {
		if strings.HasPrefix(f.name, "__") && f.name != "__typename" && !r.options.Introspection {
			return nil, ErrorList{{
				Code:    ValidationFailed,
				Message: "introspection is switched off on this server",
				Locations: []Location{{
					Line: f.node.Position.Line, Column: f.node.Position.Column,
				}},
			}}
		}
	}
	e.object(object{"Query", r.root}, []ast.SelectionSet{op.SelectionSet})
	if e.tooLarge() {
		return nil, limitError("the result has more than %d bytes", maxQueryResult)
	}
	return &Operation{Result: append(e.out, '}')}, nil
}

// root resolves the fields of Query.
func (r *Role) root(name string, args arguments) any {
	switch name {
	case "rowtide":
		return object{"ServerInfo", func(name string, _ arguments) any {
			switch name {
			case "version":
				return r.options.Server.Version
			case "role":
				return r.name
			default:
				return r.hash
			}
		}}
	case "__schema":
		return introspection{r.schema}.root()
	case "__type":
		name, _ := args["name"].(string)
		return introspection{r.schema}.named(name)
	}
	return nil
}

type arguments map[string]any

// An object is a value with fields. Fields resolve to nil, string, bool, object, []any or
// *string.
type object struct {
	typeName string
	field    func(name string, args arguments) any
}

// An executor writes the result of a query, in the order of its fields.
type executor struct {
	collector collector
	out       []byte
}

func (e *executor) tooLarge() bool { return len(e.out) > maxQueryResult }

func (e *executor) object(o object, sets []ast.SelectionSet) {
	e.out = append(e.out, '{')
	for i, f := range e.collector.collect(o.typeName, sets...) {
		if e.tooLarge() {
			return
		}
		if i > 0 {
			e.out = append(e.out, ',')
		}
		e.out = append(appendQuoted(e.out, f.key), ':')
		if f.name == "__typename" {
			e.out = appendQuoted(e.out, o.typeName)
			continue
		}
		e.value(o.field(f.name, e.arguments(f)), f)
	}
	e.out = append(e.out, '}')
}

// arguments gives the arguments of a field, with the defaults of those that are not given.
func (e *executor) arguments(f *field) arguments {
	args := arguments{}
	if f.node.Definition == nil {
		return args
	}
	for _, d := range f.node.Definition.Arguments {
		if d.DefaultValue != nil {
			args[d.Name] = literal(d.DefaultValue, nil)
		}
	}
	for _, a := range f.arguments {
		if a.Value.Kind == ast.Variable {
			if _, ok := e.collector.vars[a.Value.Raw]; !ok {
				continue
			}
		}
		args[a.Name] = literal(a.Value, e.collector.vars)
	}
	return args
}

func (e *executor) value(v any, f *field) {
	switch v := v.(type) {
	case nil:
		e.out = append(e.out, "null"...)
	case string:
		e.out = appendQuoted(e.out, v)
	case bool:
		e.out = strconv.AppendBool(e.out, v)
	case object:
		e.object(v, f.sets)
	case []any:
		e.out = append(e.out, '[')
		for i, item := range v {
			if e.tooLarge() {
				return
			}
			if i > 0 {
				e.out = append(e.out, ',')
			}
			e.value(item, f)
		}
		e.out = append(e.out, ']')
	default:
		panic(fmt.Sprintf("resolve %s: no value of the kind %T", f.name, v))
	}
}
