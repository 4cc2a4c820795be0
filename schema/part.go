package schema

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
)

// A part is what one table puts into a role's schema. It is immutable, and shared by all roles and
// catalogs that see the table alike: parsing is what costs most of making a catalog.
type part struct {
	field, types string // SDL: the field of Subscription, and the table's own types
	sum          [sha256.Size]byte
	needs        *sdlWriter // the types that it names
	root         *ast.Definition
	own          ast.DefinitionList
}

func writePart(t *roleTable) *part {
	field, types := newSDLWriter(nil), newSDLWriter(map[string]bool{})
	field.field(t)
	types.table(t)
	p := &part{field: field.b.String(), types: types.b.String(), needs: types}
	types.b.Reset()
	p.sum = sha256.Sum256([]byte(p.field + p.types))
	return p
}

func (p *part) parse() error {
	doc, err := parser.ParseSchema(&ast.Source{Name: "schema", Input: "type Subscription {\n" + p.field + "}\n" + p.types})
	if err != nil {
		return err
	}
	p.root, p.own = doc.Definitions[0], doc.Definitions[1:]
	return nil
}

// A frame is a role's schema but for the parts: the roots, system types, scalars, operators, and the
// types that the parts name.
type frame struct {
	// The parts' fields go behind head, and their types behind middle.
	head, middle, tail string
	schema             *ast.Schema
}

// sdl is the whole document without the parts.
func (f *frame) sdl() string { return f.head + f.middle + f.tail }

func writeFrame(parts []*part, positions bool) *frame {
	w := newSDLWriter(map[string]bool{})
	for _, p := range parts {
		maps.Copy(w.used, p.needs.used)
		maps.Copy(w.enums, p.needs.enums)
		maps.Copy(w.objects, p.needs.objects)
		maps.Copy(w.inputs, p.needs.inputs)
	}
	if len(parts) > 0 {
		w.used["Cursor"], w.used["DateTime"] = true, true
		w.used["BigInt"] = w.used["BigInt"] || positions
	}
	f := &frame{}
	take := func() string {
		defer w.b.Reset()
		return w.b.String()
	}
	w.operatorInputs()
	w.enumTypes()
	w.objectTypes()
	f.tail = take()
	w.line("schema {")
	w.line("  query: Query")
	if len(parts) > 0 {
		w.line("  subscription: Subscription")
	}
	w.line("}")
	w.scalars()
	w.b.WriteString(rootSDL)
	f.head = take()
	if len(parts) > 0 {
		w.b.WriteString(changeKindSDL)
		w.transaction(positions)
		f.middle = take()
	}
	return f
}

// load parses the frame. It needs a Subscription, which the parts make up.
func (f *frame) load() error {
	text := f.sdl()
	if strings.Contains(f.head, "subscription: Subscription") {
		text += "type Subscription {\n  none: Int\n}\n"
	}
	s, err := validator.LoadSchema(validator.Prelude, &ast.Source{Name: "schema", Input: text})
	if err != nil {
		return err
	}
	// gqlparser knows @defer, which subscriptions must not have (specification, 6.2.3) and
	// which nothing here could serve.
	delete(s.Directives, "defer")
	f.schema = s
	return nil
}

// join makes the schema of a frame and its parts, as gqlparser would of the whole text.
func (f *frame) join(parts []*part) (*ast.Schema, error) {
	if len(parts) == 0 {
		return f.schema, nil
	}
	s := *f.schema
	s.Types, s.PossibleTypes = maps.Clone(s.Types), maps.Clone(s.PossibleTypes)
	root := *s.Subscription
	root.Fields = make(ast.FieldList, 0, len(parts))
	for _, p := range parts {
		root.Fields = append(root.Fields, p.root.Fields...)
		for _, d := range p.own {
			if s.Types[d.Name] != nil {
				return nil, fmt.Errorf("type %s is there twice", d.Name)
			}
			s.Types[d.Name] = d
			s.AddPossibleType(d.Name, d)
		}
	}
	s.Subscription, s.Types[root.Name], s.PossibleTypes[root.Name] = &root, &root, []*ast.Definition{&root}
	return &s, nil
}
