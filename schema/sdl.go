package schema

import (
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

const rootSDL = `
type Query {
  """About this server and the role that asks."""
  rowtide: ServerInfo!
}

type ServerInfo {
  """The version of Rowtide."""
  version: String!
  """The database role whose rights decide what is seen."""
  role: String!
  """Differs where the schema of this role does."""
  schemaHash: String!
}
`

const changeKindSDL = `
"""What a frame tells."""
enum ChangeKind {
  """The row was inserted."""
  INSERT
  """The row was updated."""
  UPDATE
  """The row was deleted."""
  DELETE
  """The row came into what this subscription sees, other than by INSERT."""
  ENTER
  """The row left what this subscription sees, other than by DELETE."""
  LEAVE
  """The table was emptied: clear."""
  TRUNCATE
  """A row as it is at the start."""
  SNAPSHOT
  """What was received before is void: clear."""
  RESET
  """The subscription is armed: whatever commits from now on arrives."""
  LIVE
  """A fresher cursor, and nothing else."""
  PROGRESS
}
`

type sdlWriter struct {
	b     strings.Builder
	used  map[string]bool // scalars
	enums map[string]*enumType
	// objects and inputs are the object types of columns, and their operators, by name.
	objects map[string]*objectType
	inputs  map[string]filterInput
}

func newSDLWriter(used map[string]bool) *sdlWriter {
	return &sdlWriter{
		used: used, enums: map[string]*enumType{}, objects: map[string]*objectType{}, inputs: map[string]filterInput{},
	}
}

func (w *sdlWriter) line(parts ...string) {
	for _, p := range parts {
		w.b.WriteString(p)
	}
	w.b.WriteByte('\n')
}

// describe writes a description as a block string, each of its lines behind indent.
func (w *sdlWriter) describe(indent, text string) {
	lines := descriptionLines(text)
	switch {
	case len(lines) == 0:
	case len(lines) == 1 && !strings.HasSuffix(lines[0], `"`) && !strings.HasSuffix(lines[0], `\`):
		w.line(indent, `"""`, lines[0], `"""`)
	default:
		w.line(indent, `"""`)
		for _, l := range lines {
			if l != "" {
				l = indent + l
			}
			w.line(l)
		}
		w.line(indent, `"""`)
	}
}

// descriptionLines makes any text fit for a block string: no control characters (specification,
// 2.1.1), no end of the string inside, no blank lines around.
func descriptionLines(text string) []string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\r\n", "\n"), "\uFFFD")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return '\n'
		case r < ' ' && r != '\n' && r != '\t':
			return -1
		}
		return r
	}, text)
	text = strings.ReplaceAll(text, `"""`, `\"""`)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t")
	}
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) > 0 {
		lines[0] = strings.TrimLeft(lines[0], " \t")
	}
	return lines
}

func (w *sdlWriter) scalars() {
	for _, s := range scalarDescriptions {
		if w.used[s.name] {
			w.line()
			w.describe("", s.text)
			w.line("scalar ", s.name)
		}
	}
}

// field writes the table's field of Subscription.
func (w *sdlWriter) field(t *roleTable) {
	w.describe("  ", t.Def.Directives.Description)
	w.line("  ", t.Field, "(")
	w.line(`    """Only rows that match; they enter and leave as they come to match or cease to."""`)
	w.line("    where: ", t.Type, "Filter")
	w.line(`    """Only these kinds. RESET, LIVE and PROGRESS come in any case."""`)
	w.line("    kinds: [ChangeKind!]")
	w.line(`    """Begin with the present rows, as SNAPSHOT."""`)
	w.line("    snapshot: Boolean = false")
	w.line(`    """Go on behind the change with this cursor."""`)
	w.line("    after: Cursor")
	w.line(`    """Give a fresher cursor now and then, as PROGRESS."""`)
	w.line("    progress: Boolean = false")
	w.line("  ): ", t.Type, "Change!", deprecation(t.Def.Directives.Deprecated))
}

func (w *sdlWriter) transaction(positions bool) {
	w.line()
	w.line(`"""The transaction that made a change."""`)
	w.line("type ChangeTransaction {")
	w.line(`  """Opaque; the same in every frame of the transaction."""`)
	w.line("  id: ID!")
	w.line(`  """By the server's clock: for people, not for order."""`)
	w.line("  commitTime: DateTime!")
	w.line(`  """No frame of this transaction follows on this subscription."""`)
	w.line("  last: Boolean!")
	if positions {
		w.line("  xid: BigInt!")
		w.line("  commitLsn: String!")
	}
	w.line("}")
}

// table writes the five types of a table.
func (w *sdlWriter) table(t *roleTable) {
	w.line()
	w.describe("", t.Def.Directives.Description)
	w.rows(t, t.Type, t.shown)
	w.line()
	w.line(`"""`, t.Type, ` before the transaction: a type of its own, so that no cache takes it for the present."""`)
	w.rows(t, t.Type+"Old", t.shown)
	w.line()
	w.line(`"""The key of `, t.Type, `."""`)
	w.rows(t, t.Type+"Key", t.Key)
	w.change(t)
	w.filter(t)
}

func (w *sdlWriter) rows(t *roleTable, name string, columns []int) {
	w.line("type ", name, " {")
	for _, i := range columns {
		c := t.Columns[i]
		w.describe("  ", c.Def.Directives.Description)
		w.line("  ", c.Name, ": ", c.graphqlType(), deprecation(c.Def.Directives.Deprecated))
		w.use(c.typ)
	}
	w.line("}")
}

// use notes the types that a field's type needs.
func (w *sdlWriter) use(t *columnType) {
	switch {
	case t.elem != nil:
		w.use(t.elem)
	case t.enum != nil:
		w.enums[t.enum.name] = t.enum
	case t.scalar != nil:
		w.used[t.scalar.name] = true
	case w.objects[t.object.name] == nil:
		w.objects[t.object.name] = t.object
		for i := range t.object.fields {
			w.use(t.object.fields[i].typ)
		}
	}
}

func (c *Column) graphqlType() string {
	if c.nonNull {
		return c.typ.graphql + "!"
	}
	return c.typ.graphql
}

func deprecation(reason *string) string {
	if reason == nil {
		return ""
	}
	return " @deprecated(reason: " + quoteGraphQL(*reason) + ")"
}

func quoteGraphQL(s string) string {
	return (&ast.Value{Kind: ast.StringValue, Raw: strings.ToValidUTF8(s, "\uFFFD")}).String()
}

func (w *sdlWriter) change(t *roleTable) {
	w.line()
	w.line(`"""A frame about `, t.Type, `. RESET or TRUNCATE: clear. row: put it at rowId. rowId without row: remove it."""`)
	w.line("type ", t.Type, "Change {")
	w.line("  kind: ChangeKind!")
	w.line(`  """Opaque, of the type and the key: the same in every frame about that row."""`)
	w.line("  rowId: ID")
	w.line(`  """The key's columns, of every frame about a row."""`)
	w.line("  key: ", t.Type, "Key")
	w.line(`  """The row after the transaction; null where it is not seen."""`)
	w.line("  row: ", t.Type)
	w.line(`  """The row before the transaction; null where it was not seen."""`)
	w.line("  old: ", t.Type, "Old")
	w.line(`  """Of UPDATE: the fields of row that differ from old."""`)
	w.line("  changed: [String!]")
	w.line(`  """The place to go on from, with the argument after. Null on RESET and SNAPSHOT."""`)
	w.line("  cursor: Cursor")
	w.line("  transaction: ChangeTransaction")
	w.line(`  """Of RESET: why."""`)
	w.line("  reason: String")
	w.line("}")
}

func (w *sdlWriter) objectTypes() {
	for _, n := range slices.Sorted(maps.Keys(w.objects)) {
		o := w.objects[n]
		w.line()
		w.describe("", o.description)
		w.line("type ", n, " {")
		for i := range o.fields {
			f := &o.fields[i]
			w.describe("  ", f.description)
			w.line("  ", f.name, ": ", f.graphqlType(), deprecation(f.deprecated))
		}
		w.line("}")
	}
}

func (w *sdlWriter) enumTypes() {
	for _, n := range slices.Sorted(maps.Keys(w.enums)) {
		e := w.enums[n]
		w.line()
		w.describe("", e.def.Directives.Description)
		w.line("enum ", n, " {")
		for i, v := range e.values {
			if v != e.def.Labels[i] {
				w.describe("  ", "In the database: "+quoteGraphQL(e.def.Labels[i]))
			}
			w.line("  ", v)
		}
		w.line("}")
	}
}
