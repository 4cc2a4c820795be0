package feedtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// A commit is a transaction of the source, as an independent reader of its WAL has it.
type commit struct {
	lsn     pglogrepl.LSN
	xid     uint32
	changes []change
	touched map[*Table]*touched
}

// A change is one record of the WAL: of the kind Insert, Update, Delete or Truncate.
type change struct {
	kind     string
	table    *Table
	old, new []Value // by Table.Columns; of old, perhaps the key alone
}

// touched are the keys of one table that a commit changed, with the time of the last change.
type touched struct {
	truncated bool
	last      map[string]int
}

// keys are the keys in the order of their last change.
func (t *touched) keys() []string {
	return slices.SortedFunc(maps.Keys(t.last), func(a, b string) int { return t.last[a] - t.last[b] })
}

// A walReader turns the output of a slot into commits. It uses pglogrepl's decoder.
type walReader struct {
	tables    map[string]*Table
	relations map[uint32]*relation
	now       *commit
	clock     int
}

// A relation places the columns of the stream among those of the table.
type relation struct {
	table *Table
	to    []int
}

// changesSQL reads everything that the slot has: in one go, since each call decodes again from
// the slot's restart_lsn.
const changesSQL = `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)`

// read gives the commits of the slot, in WAL order, until there are no more.
func (w *walReader) read(ctx context.Context, conn *pgx.Conn, slot, publication string, each func(*commit) error) error {
	for {
		some := false
		rows, err := conn.Query(ctx, changesSQL, slot, publication)
		if err != nil {
			return fmt.Errorf("read slot %q: %w", slot, err)
		}
		var data []byte
		_, err = pgx.ForEachRow(rows, []any{&data}, func() error {
			some = true
			return w.message(data, each)
		})
		if err != nil {
			return fmt.Errorf("read slot %q: %w", slot, err)
		}
		if !some {
			return nil
		}
	}
}

func (w *walReader) message(data []byte, each func(*commit) error) error {
	m, err := pglogrepl.Parse(data)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pglogrepl.RelationMessage:
		return w.relation(m)
	case *pglogrepl.BeginMessage:
		w.now = &commit{lsn: m.FinalLSN, xid: m.Xid, touched: make(map[*Table]*touched)}
	case *pglogrepl.InsertMessage:
		return w.row(Insert, m.RelationID, nil, m.Tuple)
	case *pglogrepl.UpdateMessage:
		return w.row(Update, m.RelationID, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return w.row(Delete, m.RelationID, m.OldTuple, nil)
	case *pglogrepl.TruncateMessage:
		return w.truncate(m.RelationIDs)
	case *pglogrepl.CommitMessage:
		done := w.now
		w.now = nil
		return each(done)
	}
	return nil
}

func (w *walReader) relation(m *pglogrepl.RelationMessage) error {
	t := w.tables[m.Namespace+"."+m.RelationName]
	if t == nil {
		return fmt.Errorf("relation %s.%s is not replayed", m.Namespace, m.RelationName)
	}
	if len(m.Columns) != len(t.Columns) {
		return fmt.Errorf("relation %s has %d columns, want %d", t.Name, len(m.Columns), len(t.Columns))
	}
	r := &relation{table: t, to: make([]int, len(m.Columns))}
	for i, c := range m.Columns {
		if r.to[i] = t.column(c.Name); r.to[i] < 0 || t.Columns[r.to[i]].Type != c.DataType {
			return fmt.Errorf("relation %s has another column %s", t.Name, c.Name)
		}
	}
	w.relations[m.RelationID] = r
	return nil
}

func (w *walReader) row(kind string, id uint32, before, after *pglogrepl.TupleData) error {
	r := w.relations[id]
	if r == nil || w.now == nil {
		return errors.New("a change without its relation or transaction")
	}
	c := change{kind: kind, table: r.table}
	var err error
	if c.old, err = r.values(before, nil); err != nil {
		return err
	}
	if c.new, err = r.values(after, c.old); err != nil {
		return err
	}
	w.now.changes = append(w.now.changes, c)
	t := w.touch(r.table)
	w.clock += 2
	if c.old != nil {
		t.last[r.table.keyText(c.old)] = w.clock
	}
	if c.new != nil {
		// A key that changes goes before it comes.
		t.last[r.table.keyText(c.new)] = w.clock + 1
	}
	return nil
}

// values are those of a tuple. What it says is unchanged is in the old one: the tables have full
// identity, or no values out of line.
func (r *relation) values(tuple *pglogrepl.TupleData, old []Value) ([]Value, error) {
	if tuple == nil {
		return nil, nil
	}
	out := make([]Value, len(r.to))
	for i, c := range tuple.Columns {
		at := r.to[i]
		switch c.DataType {
		case pglogrepl.TupleDataTypeNull:
			out[at] = Value{Null: true}
		case pglogrepl.TupleDataTypeText:
			out[at] = Value{Text: string(c.Data)}
		case pglogrepl.TupleDataTypeToast:
			if old == nil {
				return nil, fmt.Errorf("table %s: an unchanged value has no old image", r.table.Name)
			}
			out[at] = old[at]
		default:
			return nil, fmt.Errorf("table %s: a value of kind %q", r.table.Name, c.DataType)
		}
	}
	return out, nil
}

func (w *walReader) truncate(ids []uint32) error {
	for _, id := range ids {
		r := w.relations[id]
		if r == nil || w.now == nil {
			return errors.New("a truncate without its relation or transaction")
		}
		w.now.changes = append(w.now.changes, change{kind: Truncate, table: r.table})
		t := w.touch(r.table)
		t.truncated = true
		clear(t.last)
	}
	return nil
}

func (w *walReader) touch(t *Table) *touched {
	out := w.now.touched[t]
	if out == nil {
		out = &touched{last: make(map[string]int)}
		w.now.touched[t] = out
	}
	return out
}

// keyText is the text of a row's key.
func (t *Table) keyText(row []Value) string {
	parts := make([]string, len(t.Key))
	for i, c := range t.keyColumns() {
		parts[i] = row[c].Text
	}
	return strings.Join(parts, keySeparator)
}
