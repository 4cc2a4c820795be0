package schema

import (
	"maps"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
)

// introspection resolves the introspection schema (specification, chapter 4) over a schema.
type introspection struct{ *ast.Schema }

func (s introspection) root() any {
	return object{"__Schema", func(name string, _ arguments) any {
		switch name {
		case "types":
			return list(slices.Sorted(maps.Keys(s.Types)), s.named)
		case "queryType":
			return s.optional(s.Query)
		case "mutationType":
			return s.optional(s.Mutation)
		case "subscriptionType":
			return s.optional(s.Subscription)
		case "directives":
			return list(slices.Sorted(maps.Keys(s.Directives)), func(n string) any { return s.directive(s.Directives[n]) })
		}
		return text(s.Description)
	}}
}

// text is null where there is none.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func list[T any](of []T, each func(T) any) []any {
	out := make([]any, len(of))
	for i, x := range of {
		out[i] = each(x)
	}
	return out
}

func (s introspection) optional(d *ast.Definition) any {
	if d == nil {
		return nil
	}
	return s.definition(d)
}

func (s introspection) named(name string) any { return s.optional(s.Types[name]) }

func (s introspection) definition(d *ast.Definition) any {
	return object{"__Type", func(name string, args arguments) any {
		switch name {
		case "kind":
			return string(d.Kind)
		case "name":
			return d.Name
		case "description":
			return text(d.Description)
		case "fields":
			if d.Kind == ast.Object || d.Kind == ast.Interface {
				return list(visibleFields(d.Fields, args), s.field)
			}
		case "interfaces":
			if d.Kind == ast.Object || d.Kind == ast.Interface {
				return list(d.Interfaces, s.named)
			}
		case "possibleTypes":
			if d.IsAbstractType() {
				return list(s.GetPossibleTypes(d), s.optional)
			}
		case "enumValues":
			if d.Kind == ast.Enum {
				return list(d.EnumValues, s.enumValue)
			}
		case "inputFields":
			if d.Kind == ast.InputObject {
				return list(d.Fields, s.inputField)
			}
		case "isOneOf":
			if d.Kind == ast.InputObject {
				return d.Directives.ForName("oneOf") != nil
			}
		}
		return nil
	}}
}

// visibleFields leaves out what clients must not see as fields, and the deprecated unless asked
// for.
func visibleFields(fields ast.FieldList, args arguments) []*ast.FieldDefinition {
	deprecated, _ := args["includeDeprecated"].(bool)
	var out []*ast.FieldDefinition
	for _, f := range fields {
		if len(f.Name) > 1 && f.Name[:2] == "__" || !deprecated && f.Directives.ForName("deprecated") != nil {
			continue
		}
		out = append(out, f)
	}
	return out
}

func (s introspection) typeRef(t *ast.Type) any {
	wrap := func(kind string, of func() any) any {
		return object{"__Type", func(name string, _ arguments) any {
			switch name {
			case "kind":
				return kind
			case "ofType":
				return of()
			}
			return nil
		}}
	}
	switch {
	case t.NonNull:
		inner := *t
		inner.NonNull = false
		return wrap("NON_NULL", func() any { return s.typeRef(&inner) })
	case t.Elem != nil:
		return wrap("LIST", func() any { return s.typeRef(t.Elem) })
	}
	return s.named(t.NamedType)
}

func (s introspection) field(f *ast.FieldDefinition) any {
	return object{"__Field", func(name string, _ arguments) any {
		switch name {
		case "name":
			return f.Name
		case "description":
			return text(f.Description)
		case "args":
			return list(f.Arguments, s.argument)
		case "type":
			return s.typeRef(f.Type)
		}
		return deprecated(f.Directives, name)
	}}
}

// deprecated resolves isDeprecated and deprecationReason.
func deprecated(directives ast.DirectiveList, name string) any {
	d := directives.ForName("deprecated")
	if name == "isDeprecated" {
		return d != nil
	}
	if d == nil {
		return nil
	}
	if a := d.Arguments.ForName("reason"); a != nil {
		return a.Value.Raw
	}
	return "No longer supported"
}

func (s introspection) argument(a *ast.ArgumentDefinition) any {
	return s.input(a.Name, a.Description, a.Type, a.DefaultValue, a.Directives)
}

func (s introspection) inputField(f *ast.FieldDefinition) any {
	return s.input(f.Name, f.Description, f.Type, f.DefaultValue, f.Directives)
}

func (s introspection) input(name, description string, t *ast.Type, value *ast.Value, directives ast.DirectiveList) any {
	return object{"__InputValue", func(field string, _ arguments) any {
		switch field {
		case "name":
			return name
		case "description":
			return text(description)
		case "type":
			return s.typeRef(t)
		case "defaultValue":
			if value == nil {
				return nil
			}
			return value.String()
		}
		return deprecated(directives, field)
	}}
}

func (s introspection) enumValue(v *ast.EnumValueDefinition) any {
	return object{"__EnumValue", func(name string, _ arguments) any {
		switch name {
		case "name":
			return v.Name
		case "description":
			return text(v.Description)
		}
		return deprecated(v.Directives, name)
	}}
}

func (s introspection) directive(d *ast.DirectiveDefinition) any {
	return object{"__Directive", func(name string, _ arguments) any {
		switch name {
		case "name":
			return d.Name
		case "description":
			return text(d.Description)
		case "isRepeatable":
			return d.IsRepeatable
		case "locations":
			return list(d.Locations, func(l ast.DirectiveLocation) any { return string(l) })
		case "args":
			return list(d.Arguments, s.argument)
		}
		return nil
	}}
}
