package annotation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rowtide/rowtide/schema"
)

// A File is a file of COMMENT ON statements that stand for the comments in the database: for
// databases whose comments belong to another tool. It is immutable.
type File struct {
	name       string
	statements []statement
}

// A statement is one COMMENT ON.
type statement struct {
	class  string // "table", "column", "type", …
	name   []string
	at     place // of the name
	text   string
	places []place // of the characters of text; nil for NULL
}

// classes are the objects whose comments may stand in a file. Those of views and foreign tables
// are there to be told that they cannot be served.
func classes() []string {
	return []string{"table", "column", "type", "domain", "schema", "view", "materialized view", "foreign table"}
}

// ParseFile reads SQL that consists of COMMENT ON statements alone. The name is for errors, which
// are *FileError.
func ParseFile(name, sql string) (*File, error) {
	if !utf8.ValidString(sql) || strings.ContainsRune(sql, 0) {
		return nil, &FileError{File: name, Line: 1, Column: 1, Message: "the file is not text in UTF-8"}
	}
	p := &fileParser{sqlLexer: sqlLexer{src: strings.TrimPrefix(sql, "\ufeff"), at: place{1, 1}}}
	out := &File{name: name}
	err := p.statements(out)
	if err != nil {
		err.File = name
		return nil, err
	}
	return out, nil
}

// ReadFile reads the file that --annotations names; "" is none.
func ReadFile(path string) (*File, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return nil, fmt.Errorf("--annotations %s: %w: name a file of COMMENT ON statements, such as rowtide lint --dump writes", path, pe.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("read --annotations: %w", err)
	}
	f, err := ParseFile(path, string(text))
	if err != nil {
		return nil, fmt.Errorf("--annotations: %w", err)
	}
	return f, nil
}

type fileParser struct {
	sqlLexer
	token token
}

func (p *fileParser) advance() (err *FileError) {
	p.token, err = p.next()
	return err
}

func (p *fileParser) statements(out *File) *FileError {
	seen := map[string]place{}
	for {
		if err := p.advance(); err != nil {
			return err
		}
		if p.token.kind == endToken {
			return nil
		}
		if p.token.is(";") {
			continue
		}
		s, err := p.statement()
		if err != nil {
			return err
		}
		key := s.class + " " + schema.QuoteName(s.name...)
		if first, twice := seen[key]; twice {
			return errorAt(s.at, "the comment on %s is there twice, first in line %d: take one out", key, first.line)
		}
		seen[key] = s.at
		out.statements = append(out.statements, s)
	}
}

// want moves over a word.
func (p *fileParser) want(word, message string) *FileError {
	if !p.token.is(word) {
		return errorAt(p.token.at, "%s", message)
	}
	return p.advance()
}

// statement reads one up to its semicolon, or the end of the file.
func (p *fileParser) statement() (s statement, err *FileError) {
	const only = "only COMMENT ON … IS … may stand here"
	if err = p.want("comment", only); err != nil {
		return s, err
	}
	if err = p.want("on", only); err != nil {
		return s, err
	}
	if s.class, err = p.class(); err != nil {
		return s, err
	}
	s.at = p.token.at
	if s.name, err = p.name(s.class); err != nil {
		return s, err
	}
	if err = p.want("is", "IS '…' must follow the name"); err != nil {
		return s, err
	}
	switch {
	case p.token.kind == stringToken:
		s.text, s.places = p.token.text, p.token.places
	case !p.token.is("null"):
		return s, errorAt(p.token.at, "a string or NULL must follow IS")
	}
	if err = p.advance(); err != nil {
		return s, err
	}
	if !p.token.is(";") && p.token.kind != endToken {
		return s, errorAt(p.token.at, "a semicolon must follow the comment")
	}
	return s, nil
}

// class reads what kind of object the comment is on.
func (p *fileParser) class() (string, *FileError) {
	first := p.token
	if first.kind != wordToken {
		return "", errorAt(first.at, "the kind of the object must follow COMMENT ON, such as TABLE or COLUMN")
	}
	word := first.text
	if err := p.advance(); err != nil {
		return "", err
	}
	if word == "materialized" || word == "foreign" {
		word += " " + p.token.text
		if err := p.advance(); err != nil {
			return "", err
		}
	}
	if !slices.Contains(classes(), word) {
		return "", errorAt(first.at, "comments on a %s bear no annotations: only those on %s do", strings.ToUpper(word),
			strings.ToUpper(strings.Join(classes(), ", ")))
	}
	return word, nil
}

// name reads a name with as many parts as that of such an object may have.
func (p *fileParser) name(class string) ([]string, *FileError) {
	at := p.token.at
	var name []string
	for {
		if p.token.kind != wordToken && p.token.kind != quotedToken {
			return nil, errorAt(p.token.at, "a name must follow")
		}
		name = append(name, p.token.text)
		if err := p.advance(); err != nil {
			return nil, err
		}
		if !p.token.is(".") {
			break
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	least, most := 1, 2
	switch class {
	case "column":
		least, most = 2, 3
	case "schema":
		most = 1
	}
	if len(name) < least || len(name) > most {
		forms := map[string]string{"column": "table.column or schema.table.column", "schema": "its name alone"}
		form := forms[class]
		if form == "" {
			form = "name or schema.name"
		}
		return nil, errorAt(at, "%s is no name of a %s: write %s", schema.QuoteName(name...), class, form)
	}
	return name, nil
}

// ApplyFile is Apply where a file's comments stand for the database's. Objects that are named in
// the file and not in the database are told; nil is no file.
func ApplyFile(db *schema.Database, f *File) []schema.Problem {
	if f == nil {
		return Apply(db)
	}
	o := overriding{db: db, of: map[string]*statement{}}
	var missing []schema.Problem
	for i := range f.statements {
		s := &f.statements[i]
		if message := o.override(s); message != "" {
			missing = append(missing, schema.Problem{
				Object: s.class + " " + schema.QuoteName(s.name...), File: f.name, Line: s.at.line, Column: s.at.column,
				Message: message, Hint: "correct the name, or take the comment out", Missing: true,
			})
		}
	}
	problems := Apply(db)
	for i := range problems {
		p := &problems[i]
		if s := o.of[p.Object]; s != nil && p.Line > 0 {
			at := s.locate(p.Line, p.Column)
			p.File, p.Line, p.Column = f.name, at.line, at.column
		}
	}
	return append(missing, problems...)
}

// locate gives the place in the file of a place in the comment.
func (s *statement) locate(line, column int) place {
	at := place{1, 1}
	for i, r := range []rune(s.text) {
		if at.line == line && at.column == column {
			return s.places[i]
		}
		at.column++
		if r == '\n' {
			at = place{at.line + 1, 1}
		}
	}
	return s.at
}

// overriding puts comments into a database. Its map has the statement behind each object of which
// Apply may tell a problem.
type overriding struct {
	db *schema.Database
	of map[string]*statement
}

// override puts one comment in its place; "" for done.
func (o *overriding) override(s *statement) string {
	switch s.class {
	case "schema":
		return o.schemaComment(s)
	case "type", "domain":
		return o.typeComment(s)
	case "column":
		table := s.name[:len(s.name)-1]
		if d := o.table(table); d != nil {
			return o.column(s, d)
		}
		if t := o.typeNamed(table); t != nil {
			return o.field(s, t)
		}
		return "there is no table " + schema.QuoteName(table...) + " in the served schemas"
	}
	d := o.table(s.name)
	if d == nil {
		return "there is none of that name in the served schemas"
	}
	d.Comment = s.text
	o.of["table "+d.SQLName()] = s
	return ""
}

func (o *overriding) schemaComment(s *statement) string {
	if !slices.Contains(o.db.Schemas, s.name[0]) {
		return "it is not served"
	}
	if _, mistakes := Parse(OnTable, s.text); len(mistakes) > 0 || strings.Contains(s.text, "@") {
		return "comments on schemas bear no annotations"
	}
	return ""
}

func (o *overriding) column(s *statement, d *schema.TableDef) string {
	for i := range d.Columns {
		if c := &d.Columns[i]; c.Name == s.name[len(s.name)-1] {
			c.Comment = s.text
			o.of["column "+schema.QuoteName(d.Schema, d.Name, c.Name)] = s
			return ""
		}
	}
	return "table " + d.SQLName() + " has no such column"
}

func (o *overriding) field(s *statement, t *schema.Type) string {
	for i := range t.Fields {
		if c := &t.Fields[i]; c.Name == s.name[len(s.name)-1] {
			c.Comment = s.text
			o.of["column "+schema.QuoteName(t.Schema, t.Name, c.Name)] = s
			return ""
		}
	}
	return "type " + schema.QuoteName(t.Schema, t.Name) + " has no such column"
}

func (o *overriding) typeComment(s *statement) string {
	t := o.typeNamed(s.name)
	if t == nil {
		return "no column of a table in the served schemas has it"
	}
	t.Comment = s.text
	o.of["type "+schema.QuoteName(t.Schema, t.Name)] = s
	return ""
}

// table finds a table by its name, with its schema or in the first that has one.
func (o *overriding) table(name []string) *schema.TableDef {
	at := slices.IndexFunc(o.db.Tables, func(d schema.TableDef) bool {
		return d.Name == name[len(name)-1] && (len(name) == 1 || d.Schema == name[0])
	})
	if at < 0 {
		return nil
	}
	return &o.db.Tables[at]
}

func (o *overriding) typeNamed(name []string) *schema.Type {
	var found *schema.Type
	for t := range typesOf(o.db) {
		if t.Name != name[len(name)-1] || len(name) == 2 && t.Schema != name[0] || len(name) == 1 && !slices.Contains(o.db.Schemas, t.Schema) {
			continue
		}
		if found == nil || slices.Index(o.db.Schemas, t.Schema) < slices.Index(o.db.Schemas, found.Schema) {
			found = t
		}
	}
	return found
}
