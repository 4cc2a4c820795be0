package schema_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/rowtide/rowtide/schema"
)

// fullIntrospection is what graphql-js 16 asks with all options.
const fullIntrospection = `query IntrospectionQuery {
  __schema {
    description
    queryType { name kind }
    mutationType { name kind }
    subscriptionType { name kind }
    types { ...FullType }
    directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } }
  }
}
fragment FullType on __Type {
  kind name description specifiedByURL isOneOf
  fields(includeDeprecated: true) {
    name description
    args(includeDeprecated: true) { ...InputValue }
    type { ...TypeRef }
    isDeprecated deprecationReason
  }
  inputFields(includeDeprecated: true) { ...InputValue }
  interfaces { ...TypeRef }
  enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
  possibleTypes { ...TypeRef }
}
fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
fragment TypeRef on __Type {
  kind name
  ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
    ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } }
}`

type introspectedType struct {
	Kind, Name string
	OfType     *introspectedType
}

func (t introspectedType) String() string {
	switch t.Kind {
	case "NON_NULL":
		return t.OfType.String() + "!"
	case "LIST":
		return "[" + t.OfType.String() + "]"
	}
	return t.Name
}

type introspectedField struct {
	Name              string
	Description       *string
	Type              introspectedType
	Args              []introspectedField
	DefaultValue      *string
	IsDeprecated      bool
	DeprecationReason *string
}

type introspected struct {
	Data struct {
		Schema struct {
			QueryType, MutationType, SubscriptionType *introspectedType
			Types                                     []struct {
				introspectedType
				Description         *string
				Fields, InputFields []introspectedField
				EnumValues          []introspectedField
			}
			Directives []struct {
				Name string
				Args []introspectedField
			}
		} `json:"__schema"`
	}
}

// lines tells a schema in lines that can be compared.
func (s introspected) lines() []string {
	var out []string
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, t := range s.Data.Schema.Types {
		out = append(out, fmt.Sprintf("%s %s %q", t.Kind, t.Name, text(t.Description)))
		for _, f := range slices.Concat(t.Fields, t.InputFields) {
			out = append(out, fmt.Sprintf("%s.%s: %s %q %v", t.Name, f.Name, f.Type, text(f.Description), text(f.DeprecationReason)))
			for _, a := range f.Args {
				out = append(out, fmt.Sprintf("%s.%s(%s: %s = %s) %q", t.Name, f.Name, a.Name, a.Type, text(a.DefaultValue), text(a.Description)))
			}
		}
		for _, v := range t.EnumValues {
			out = append(out, fmt.Sprintf("%s.%s %q", t.Name, v.Name, text(v.Description)))
		}
	}
	slices.Sort(out)
	return out
}

// linesOf tells the same of a schema that was parsed from SDL.
func linesOf(s *ast.Schema) []string {
	var out []string
	reason := func(d ast.DirectiveList) string {
		if d := d.ForName("deprecated"); d != nil {
			return d.Arguments.ForName("reason").Value.Raw
		}
		return ""
	}
	for _, t := range s.Types {
		out = append(out, fmt.Sprintf("%s %s %q", t.Kind, t.Name, t.Description))
		for _, f := range t.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			out = append(out, fmt.Sprintf("%s.%s: %s %q %v", t.Name, f.Name, f.Type, f.Description, reason(f.Directives)))
			for _, a := range f.Arguments {
				value := ""
				if a.DefaultValue != nil {
					value = a.DefaultValue.String()
				}
				out = append(out, fmt.Sprintf("%s.%s(%s: %s = %s) %q", t.Name, f.Name, a.Name, a.Type, value, a.Description))
			}
		}
		for _, v := range t.EnumValues {
			out = append(out, fmt.Sprintf("%s.%s %q", t.Name, v.Name, v.Description))
		}
	}
	slices.Sort(out)
	return out
}

func TestIntrospectionTellsTheSchemaOfTheRole(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{Introspection: true})
	for _, name := range []string{"reader", "clerk", "visitor"} {
		op, err := c.Role(name).Compile(schema.Request{Query: fullIntrospection})
		if err != nil {
			t.Fatal(err)
		}
		var got introspected
		if err := json.Unmarshal(op.Result, &got); err != nil {
			t.Fatal(err)
		}
		want, err := gqlparser.LoadSchema(&ast.Source{Input: c.Role(name).SDL()})
		if err != nil {
			t.Fatal(err)
		}
		if a, b := strings.Join(got.lines(), "\n"), strings.Join(linesOf(want), "\n"); a != b {
			t.Errorf("%s: introspection says\n%s\nthe SDL\n%s", name, a, b)
		}
		if s := got.Data.Schema; s.QueryType.Name != "Query" || s.MutationType != nil || (s.SubscriptionType != nil) != (name != "visitor") {
			t.Errorf("%s: roots %+v", name, s)
		}
		var directives []string
		for _, d := range got.Data.Schema.Directives {
			directives = append(directives, d.Name)
		}
		if fmt.Sprint(directives) != "[deprecated include oneOf skip specifiedBy]" {
			t.Errorf("%s: directives %v", name, directives)
		}
	}
}

func TestQueriesAreAnswered(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{Introspection: true, Server: schema.ServerInfo{Version: "1.2.3"}})
	role := c.Role("reader")
	for _, x := range []struct{ query, variables, want string }{
		{"{ rowtide { version role schemaHash } __typename }", "", `{"data":{"rowtide":{"version":"1.2.3","role":"reader","schemaHash":"` + role.Hash() + `"},"__typename":"Query"}}`},
		{"query ($b: Boolean = false) { a: rowtide @skip(if: $b) { ...F } b: __typename @include(if: $b) } fragment F on ServerInfo { r: role __typename }", "", `{"data":{"a":{"r":"reader","__typename":"ServerInfo"}}}`},
		{`{ __type(name: "Nope") { name } }`, "", `{"data":{"__type":null}}`},
		{`query ($n: String!) { __type(name: $n) { kind name fields { name } description } }`, `{"n": "TodoItemKey"}`, `{"data":{"__type":{"kind":"OBJECT","name":"TodoItemKey","fields":[{"name":"id"}],"description":"The key of TodoItem."}}}`},
		{
			`{ __type(name: "TodoItem") { all: fields(includeDeprecated: true) { name } } }`, "",
			`{"data":{"__type":{"all":[` + list("id", "title", "done", "code", "legacyCode", "due", "day", "tags", "data", "price", "status", "history", "area", "weight") + `]}}}`,
		},
		{
			`{ __type(name: "TodoItem") { some: fields { name } } }`, "",
			`{"data":{"__type":{"some":[` + list("id", "title", "done", "code", "due", "day", "tags", "data", "price", "status", "history", "area", "weight") + `]}}}`,
		},
	} {
		op, err := role.Compile(schema.Request{Query: x.query, Variables: []byte(x.variables)})
		if err != nil {
			t.Errorf("%s: %v", x.query, err)
			continue
		}
		if string(op.Result) != x.want {
			t.Errorf("%s\n got  %s\n want %s", x.query, op.Result, x.want)
		}
	}
}

func list(names ...string) string {
	for i, n := range names {
		names[i] = `{"name":"` + n + `"}`
	}
	return strings.Join(names, ",")
}

// Covers S17.
func TestIntrospectionCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	for _, query := range []string{
		fullIntrospection, `{ __type(name: "TodoItem") { name } }`, "{ ...F } fragment F on Query { x: __schema { types { name } } }",
	} {
		list := compileError(t, c, schema.Request{Query: query})
		if !strings.Contains(list[0].Message, "introspection is switched off") || len(list[0].Locations) != 1 {
			t.Errorf("%s: %v", query, list)
		}
	}
	op := compile(t, c, "{ __typename rowtide { __typename role } }", "")
	if want := `{"data":{"__typename":"Query","rowtide":{"__typename":"ServerInfo","role":"reader"}}}`; string(op.Result) != want {
		t.Errorf("got %s", op.Result)
	}
}
