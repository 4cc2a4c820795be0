package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/rowtide/rowtide/cdc"
)

// A Selection is a selection set, ready to write: a flat program in which each instruction
// writes what is fixed, then a value.
type Selection struct {
	table     *roleTable
	program   []instruction
	signature string
	last      bool
}

type instruction struct {
	// fixed is written first: names, punctuation, what never changes.
	fixed string
	op    opcode
	// at is the column, or for openers the instruction to go on at where the object is null.
	at int
	// write writes the value of a column, and shape says by what: the column's type and what
	// is selected of it.
	write writeFunc
	shape string
}

type opcode uint8

const (
	doNothing opcode = iota
	doKind
	doRowID
	doKey   // opener: the images' columns are then those of Change.Key
	doRow   // opener
	doOld   // opener
	doTrans // opener
	doColumn
	doChanged
	doCursor
	doReason
	doTransID
	doCommitTime
	doLast
	doXID
	doCommitLSN
)

// compileSelection makes the program of a subscription's root field.
func compileSelection(t *roleTable, c *collector, root *field, u uses) *Selection {
	p := &programmer{table: t, collector: c, uses: u}
	p.fixed.WriteString(`{"data":{"`)
	p.fixed.WriteString(root.key)
	p.fixed.WriteString(`":`)
	p.object(t.Type+"Change", root, p.changeField)
	p.fixed.WriteString(`},"extensions":{"cursor":`)
	p.emit(doCursor, 0)
	p.fixed.WriteString(`}}`)
	p.emit(doNothing, 0)
	s := &Selection{table: t, program: p.program}
	for i := range s.program {
		s.last = s.last || s.program[i].op == doLast
	}
	s.signature = s.sign()
	return s
}

type programmer struct {
	table     *roleTable
	collector *collector
	uses      uses
	program   []instruction
	fixed     strings.Builder
}

// emit ends an instruction with what was fixed since the last.
func (p *programmer) emit(op opcode, at int) int {
	p.program = append(p.program, instruction{fixed: p.fixed.String(), op: op, at: at})
	p.fixed.Reset()
	return len(p.program) - 1
}

// object writes the fields of an object type.
func (p *programmer) object(typeName string, f *field, each func(*field)) {
	p.fixed.WriteByte('{')
	for i, sub := range p.collector.collect(typeName, f.sets...) {
		if i > 0 {
			p.fixed.WriteByte(',')
		}
		p.fixed.WriteByte('"')
		p.fixed.WriteString(sub.key)
		p.fixed.WriteString(`":`)
		if sub.name == "__typename" {
			p.fixed.WriteString(`"` + typeName + `"`)
			continue
		}
		each(sub)
	}
	p.fixed.WriteByte('}')
}

// nullable writes an object that may be null.
func (p *programmer) nullable(op opcode, typeName string, f *field, each func(*field)) {
	opener := p.emit(op, 0)
	p.object(typeName, f, each)
	p.program[opener].at = p.emit(doNothing, 0) + 1
}

func (p *programmer) changeField(f *field) {
	t := p.table.Type
	switch f.name {
	case "kind":
		p.emit(doKind, 0)
	case "rowId":
		p.emit(doRowID, 0)
	case "key":
		p.nullable(doKey, t+"Key", f, p.column)
	case "row":
		p.nullable(doRow, t, f, p.column)
	case "old":
		p.nullable(doOld, t+"Old", f, p.column)
	case "changed":
		p.emit(doChanged, 0)
	case "cursor":
		p.emit(doCursor, 0)
	case "transaction":
		p.nullable(doTrans, "ChangeTransaction", f, p.transactionField)
	case "reason":
		p.emit(doReason, 0)
	}
}

func (p *programmer) column(f *field) {
	at := p.table.byName[f.name]
	c := p.table.Columns[at]
	w := columnWriter{collector: p.collector, uses: p.uses, path: c.Name}
	p.uses.add(c.Name, c.graphqlType(), c.typ, c.stored())
	write := w.of(c.typ, f)
	in := &p.program[p.emit(doColumn, at)]
	in.write, in.shape = write, string(c.appendSignature(w.shape))
}

func (p *programmer) transactionField(f *field) {
	switch f.name {
	case "id":
		p.emit(doTransID, 0)
	case "commitTime":
		p.emit(doCommitTime, 0)
	case "last":
		p.emit(doLast, 0)
	case "xid":
		p.emit(doXID, 0)
	case "commitLsn":
		p.emit(doCommitLSN, 0)
	}
}

// sign is a hash of the program and of all that it writes by: the columns' types, the key, and
// the columns that "changed" names.
func (s *Selection) sign() string {
	var b []byte
	b = fmt.Appendf(b, "%d %q %v\n", s.table.Def.OID, s.table.Type, s.table.Key)
	for _, in := range s.program {
		b = fmt.Appendf(b, "%q %d %d\n", in.fixed, in.op, in.at)
		b = append(b, in.shape...)
		if in.op == doChanged {
			for _, i := range s.table.shown {
				b = fmt.Appendf(b, "%d %q\n", i, s.table.Columns[i].Name)
			}
		}
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func (c *Column) appendSignature(b []byte) []byte {
	return c.typ.appendSignature(fmt.Appendf(b, "%q %d %c\n", c.graphqlType(), c.Def.Type.OID, c.Def.Generated))
}

// Signature is equal for selections that write the same bytes for the same change.
func (s *Selection) Signature() string { return s.signature }

// UsesLast tells that transaction.last is selected: the writer must know it.
func (s *Selection) UsesLast() bool { return s.last }

// Changed tells whether any column that the role may read differs between the images.
func (s *Selection) Changed(old, new cdc.Row) bool {
	for _, i := range s.table.shown {
		if differs(old[i], new[i]) {
			return true
		}
	}
	return false
}

// differs compares two values of a column. A value that one image does not hold is no
// difference: an unchanged one is not, and a generated one follows others.
func differs(old, new cdc.Value) bool {
	return old != new && old.Known() && new.Known()
}
