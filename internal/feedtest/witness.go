package feedtest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A witness is a session of one principal, or of the superuser, that says what its SELECTs
// return. Role and claims are the session's for good, so nothing of another principal can be
// in it.
type witness struct {
	conn *pgconn.PgConn
	eyes []*eye
}

// An eye is one SELECT of a witness: of a subscription, or of a whole table.
type eye struct {
	name    string
	table   *Table
	columns []int // selected, in the order of the SELECT
	stream  *Stream
	// seen are the keys that it returned when each was last looked at.
	seen map[string]bool
}

// newEye makes the eye of a subscription.
func newEye(name string, s *Subscription) *eye {
	return &eye{name: name, table: s.Table, columns: s.readable(), stream: &Stream{Subscription: s}, seen: make(map[string]bool)}
}

// wholeTable makes an eye on all rows and columns, for the superuser.
func wholeTable(t *Table) *eye {
	e := &eye{name: t.Name, table: t}
	for i := range t.Columns {
		e.columns = append(e.columns, i)
	}
	return e
}

// statements are the SELECTs of an eye: of everything, and of some keys. Those of a key of
// several columns may give more than was asked for.
func (e *eye) statements() map[string]string {
	names := make([]string, len(e.columns))
	for i, c := range e.columns {
		names[i] = quote(e.table.Columns[c].Name)
	}
	keys := make([]string, len(e.table.Key))
	for i, k := range e.table.Key {
		keys[i] = fmt.Sprintf("%s = ANY ($%d)", quote(k), i+1)
	}
	sql, keyed := "SELECT "+strings.Join(names, ", ")+" FROM "+e.table.sql(), strings.Join(keys, " AND ")
	all := sql
	if e.stream != nil && e.stream.Subscription.WhereSQL != "" {
		where := "(" + e.stream.Subscription.WhereSQL + ")"
		all, keyed = sql+" WHERE "+where, where+" AND "+keyed
	}
	return map[string]string{e.name + " all": all, e.name + " keys": sql + " WHERE " + keyed}
}

// openWitness opens the session of a principal; of the superuser if that is nil.
func openWitness(ctx context.Context, url string, p *Principal, eyes []*eye) (*witness, error) {
	settings := map[string]string{}
	if p != nil {
		settings["role"] = p.Role
		settings["request.jwt.claims"] = p.ClaimsJSON()
	}
	conn, err := connect(ctx, url, settings)
	if err != nil {
		return nil, err
	}
	w := &witness{conn: conn.PgConn(), eyes: eyes}
	for _, e := range eyes {
		if err := prepare(ctx, w.conn, e.statements()); err != nil {
			_ = w.conn.Close(ctx)
			return nil, err
		}
	}
	return w, nil
}

// A question is what to look at: some keys of some tables, or, where it is nil, everything.
type question map[*Table]*asked

// asked are keys of one table, in order.
type asked struct {
	keys   []string
	params [][]byte
	has    map[string]bool
}

func (t *Table) ask(keys []string) *asked {
	a := &asked{keys: keys, params: t.arrays(keys), has: make(map[string]bool, len(keys))}
	for _, k := range keys {
		a.has[k] = true
	}
	return a
}

// look asks and hands each row to see. An eye whose table the question does not name is left
// out.
func (w *witness) look(ctx context.Context, q question, see func(e *eye, key string, row [][]byte) error) error {
	batch := &pgconn.Batch{}
	var eyes []*eye
	for _, e := range w.eyes {
		switch {
		case q == nil:
			batch.ExecPrepared(e.name+" all", nil, nil, nil)
		case q[e.table] != nil:
			batch.ExecPrepared(e.name+" keys", q[e.table].params, nil, nil)
		default:
			continue
		}
		eyes = append(eyes, e)
	}
	if len(eyes) == 0 {
		return nil
	}
	results := w.conn.ExecBatch(ctx, batch)
	var err error
	for i := 0; err == nil && results.NextResult(); i++ {
		e := eyes[i]
		err = e.read(results.ResultReader(), func(key string, row [][]byte) error {
			if q != nil && !q[e.table].has[key] {
				return nil // the SELECT may give more than was asked for
			}
			return see(e, key, row)
		})
	}
	if closing := results.Close(); closing != nil {
		err = closing
	}
	return err
}

func (e *eye) read(rows *pgconn.ResultReader, see func(key string, row [][]byte) error) error {
	parts := make([]string, len(e.table.Key))
	var at []int
	for _, c := range e.table.keyColumns() {
		at = append(at, slices.Index(e.columns, c))
	}
	for rows.NextRow() {
		row := rows.Values()
		for i, c := range at {
			parts[i] = string(row[c])
		}
		if err := see(strings.Join(parts, keySeparator), row); err != nil {
			return err
		}
	}
	_, err := rows.Close()
	return err
}

// arrays are the array literals of each column of the keys.
func (t *Table) arrays(keys []string) [][]byte {
	out := make([][]byte, len(t.Key))
	met := make([]map[string]bool, len(t.Key))
	for i := range out {
		out[i] = []byte{'{'}
		met[i] = make(map[string]bool)
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for _, k := range keys {
		for i, part := range strings.Split(k, keySeparator) {
			if met[i][part] {
				continue
			}
			met[i][part] = true
			if len(out[i]) > 1 {
				out[i] = append(out[i], ',')
			}
			out[i] = append(out[i], '"')
			out[i] = append(out[i], escape.Replace(part)...)
			out[i] = append(out[i], '"')
		}
	}
	for i := range out {
		out[i] = append(out[i], '}')
	}
	return out
}

// image copies a row of an eye on a whole table.
func (e *eye) image(row [][]byte) *Image {
	out := &Image{Values: make([]Value, len(e.table.Columns))}
	for i, c := range e.columns {
		out.Values[c] = Value{Text: string(row[i]), Null: row[i] == nil}
	}
	return out
}

// shows tells whether a row of the eye is the image, as far as the eye sees.
func (e *eye) shows(row [][]byte, image *Image) bool {
	for i, c := range e.columns {
		if v := &image.Values[c]; v.Null != (row[i] == nil) || v.Text != string(row[i]) {
			return false
		}
	}
	return true
}
