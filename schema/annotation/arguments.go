package annotation

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	gqlparser "github.com/vektah/gqlparser/v2/parser"

	"github.com/rowtide/rowtide/schema"
)

//go:embed directives.graphql
var definitions string

// Definitions is the file that defines the directives, with their documentation.
func Definitions() string { return definitions }

var language = sync.OnceValue(func() *ast.SchemaDocument {
	doc, err := gqlparser.ParseSchema(&ast.Source{Name: "directives.graphql", Input: definitions})
	if err != nil {
		panic(fmt.Sprintf("parse directives.graphql: %v", err))
	}
	return doc
})

// carrier is what the parser gets before a directive: something that may bear it.
const carrier = "scalar X\n"

// apply parses a directive's text, checks it against its definition and keeps what it says.
func (p *parser) apply(s scanned) {
	def := language().Directives.ForName(s.name)
	if !p.legalHere(def, s.begin) {
		return
	}
	if p.seen[s.name] {
		p.mistake(s.begin, "@"+s.name+" is there twice", "take one out")
		return
	}
	p.seen[s.name] = true
	// In a schema a directive takes constant values only, as ours do.
	doc, err := gqlparser.ParseSchema(&ast.Source{Input: carrier + s.text})
	if err != nil {
		p.syntax(s, err)
		return
	}
	d := directive{parser: p, scanned: s, def: def, values: map[string]*ast.Value{}}
	if d.check(doc.Definitions[0].Directives[0].Arguments) {
		d.keep()
	}
}

// legalHere tells whether the directive may stand on the target.
func (p *parser) legalHere(def *ast.DirectiveDefinition, begin place) bool {
	var on []string
	for _, l := range def.Locations {
		t := targetOf(l)
		if t == p.target {
			return true
		}
		on = append(on, t.String()+"s")
	}
	hint := "take it out"
	if def.Name == "name" && p.target == OnTable {
		hint = `@subscribe(field: "…", type: "…") names a table`
	}
	p.mistake(begin, fmt.Sprintf("@%s is for %s, not for a %s", def.Name, strings.Join(on, " and "), p.target), hint)
	return false
}

func targetOf(l ast.DirectiveLocation) Target {
	switch l {
	case ast.LocationObject:
		return OnTable
	case ast.LocationFieldDefinition:
		return OnColumn
	default:
		return OnType
	}
}

func (p *parser) syntax(s scanned, err error) {
	at, message := s.begin, err.Error()
	var g *gqlerror.Error
	if errors.As(err, &g) {
		message = g.Message
		if len(g.Locations) > 0 {
			at = s.locate(g.Locations[0])
		}
	}
	p.mistake(at, "@"+s.name+" is not in GraphQL syntax: "+strings.TrimSuffix(message, "."),
		"write "+usage(language().Directives.ForName(s.name)))
}

// locate gives the place in the comment of a place in the parsed text, whose second line is the
// directive's first.
func (s scanned) locate(l gqlerror.Location) place {
	switch {
	case l.Line < 2 || l.Column < 1:
		return s.begin
	case l.Line == 2:
		return place{s.begin.line, s.begin.column + l.Column - 1}
	}
	return place{s.begin.line + l.Line - 2, l.Column}
}

// placeOf counts from the start of a token: its column is that of the text inside quotation
// marks, and wrong for block strings.
func (s scanned) placeOf(pos *ast.Position) place {
	at := s.begin
	n := pos.Start - len(carrier)
	for _, r := range s.text {
		if n <= 0 {
			break
		}
		n--
		at.column++
		if r == '\n' {
			at = place{at.line + 1, 1}
		}
	}
	return at
}

// usage shows a directive with its arguments.
func usage(def *ast.DirectiveDefinition) string {
	if len(def.Arguments) == 0 {
		return "@" + def.Name
	}
	args := make([]string, len(def.Arguments))
	for i, a := range def.Arguments {
		args[i] = a.Name + ": " + a.Type.String()
	}
	return "@" + def.Name + "(" + strings.Join(args, ", ") + ")"
}

// A directive is one whose arguments are being checked.
type directive struct {
	*parser
	scanned
	def    *ast.DirectiveDefinition
	values map[string]*ast.Value
	bad    bool
}

func (d *directive) fail(pos *ast.Position, message, hint string) {
	at := d.begin
	if pos != nil {
		at = d.placeOf(pos)
	}
	d.bad = true
	d.mistake(at, message, hint)
}

// check tells whether the arguments are those of the definition.
func (d *directive) check(args ast.ArgumentList) bool {
	for _, a := range args {
		def := d.def.Arguments.ForName(a.Name)
		if def == nil {
			d.unknown(a)
			continue
		}
		if _, twice := d.values[a.Name]; twice {
			d.fail(a.Position, "the argument "+a.Name+" is there twice", "take one out")
			continue
		}
		d.values[a.Name] = a.Value
		d.value(a.Name, a.Value, def.Type)
	}
	for _, def := range d.def.Arguments {
		if def.Type.NonNull && d.values[def.Name] == nil && !d.bad {
			d.fail(nil, "@"+d.def.Name+" needs the argument "+def.Name, "write "+usage(d.def))
		}
	}
	return !d.bad
}

func (d *directive) unknown(a *ast.Argument) {
	hint := "write " + usage(d.def)
	var options []string
	for _, def := range d.def.Arguments {
		options = append(options, def.Name)
	}
	if n := nearest(a.Name, options); n != "" {
		hint = "did you mean " + n + "?"
	}
	d.fail(a.Position, "@"+d.def.Name+" has no argument "+a.Name, hint)
}

// value checks one value against its type. A single value may stand for a list of one.
func (d *directive) value(name string, v *ast.Value, t *ast.Type) {
	switch {
	case v.Kind == ast.NullValue:
		if t.NonNull {
			d.fail(v.Position, name+" must not be null", "write "+usage(d.def))
		}
	case t.Elem != nil && v.Kind == ast.ListValue:
		d.list(name, v, t)
	case t.Elem != nil:
		d.value(name, v, t.Elem)
	case t.NamedType == "String":
		d.text(name, v)
	default:
		d.enum(name, v, t.NamedType)
	}
}

func (d *directive) list(name string, v *ast.Value, t *ast.Type) {
	if len(v.Children) == 0 {
		d.fail(v.Position, name+" is an empty list", "name one at least")
	}
	seen := map[string]bool{}
	for _, c := range v.Children {
		d.value(name, c.Value, t.Elem)
		if seen[c.Value.Raw] {
			d.fail(c.Value.Position, name+" has "+c.Value.String()+" twice", "take one out")
		}
		seen[c.Value.Raw] = true
	}
}

func (d *directive) text(name string, v *ast.Value) {
	switch {
	case v.Kind != ast.StringValue && v.Kind != ast.BlockValue:
		d.fail(v.Position, name+" must be a string", name+": "+quote(v.String()))
	case name == "reason":
	case v.Raw == "":
		d.fail(v.Position, name+" is empty", "write "+usage(d.def))
	case name != "columns" && !isName(v.Raw):
		d.fail(v.Position, name+": "+quote(v.Raw)+" is no GraphQL name",
			"letters, digits and _, no digit first, no two _ first")
	}
}

func (d *directive) enum(name string, v *ast.Value, enum string) {
	var options []string
	for _, e := range language().Definitions.ForName(enum).EnumValues {
		if v.Kind == ast.EnumValue && e.Name == v.Raw {
			return
		}
		options = append(options, e.Name)
	}
	hint := "one of " + strings.Join(options, ", ")
	if n := nearest(v.Raw, options); n != "" {
		hint = "did you mean " + n + "?"
	} else if v.Kind == ast.StringValue {
		hint += ", without quotation marks"
	}
	d.fail(v.Position, name+" cannot be "+v.String(), hint)
}

// keep puts checked arguments into the directives.
func (d *directive) keep() {
	out := &d.directives
	switch d.def.Name {
	case "subscribe":
		out.Subscribe = &schema.Subscribe{
			Field: d.string("field"), Type: d.string("type"),
			NoRowSecurity: d.string("rowSecurity") == "NOT_REQUIRED",
		}
		for _, k := range d.strings("kinds") {
			kind, _ := schema.ParseChangeKind(k)
			out.Subscribe.Kinds = append(out.Subscribe.Kinds, kind)
		}
	case "omit":
		out.Omit = true
	case "name":
		out.Name = d.string("as")
	case "key":
		out.Key = d.strings("columns")
	case "deprecated":
		reason := d.string("reason")
		if v := d.values["reason"]; v == nil || v.Kind == ast.NullValue {
			reason = d.def.Arguments.ForName("reason").DefaultValue.Raw
		}
		out.Deprecated = &reason
	}
}

func (d *directive) string(name string) string {
	if v := d.values[name]; v != nil && v.Kind != ast.NullValue {
		return v.Raw
	}
	return ""
}

func (d *directive) strings(name string) []string {
	v := d.values[name]
	switch {
	case v == nil || v.Kind == ast.NullValue:
		return nil
	case v.Kind != ast.ListValue:
		return []string{v.Raw}
	}
	var out []string
	for _, c := range v.Children {
		out = append(out, c.Value.Raw)
	}
	return out
}

func quote(s string) string { return (&ast.Value{Kind: ast.StringValue, Raw: s}).String() }

// isName is the grammar of names that schemas may define.
func isName(s string) bool {
	if s == "" || strings.HasPrefix(s, "__") || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.Trim(s, "_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == ""
}
