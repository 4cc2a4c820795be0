package fold

import "github.com/rowtide/rowtide/cdc"

// describe takes a new description of the table, which DDL or nothing at all may have brought,
// carries the images over and gives how many bytes more are held now.
func (t *table) describe(rel *cdc.Relation, key []int) int {
	before := t.held
	old, oldKey := t.rel, t.key
	t.rel, t.key = rel, key
	if (len(t.entries) == 0 && !t.disk.used) || t.gap != "" {
		return 0
	}
	from, ok := mapping(old, rel)
	if !ok || !sameKeys(oldKey, key, from) {
		t.giveUp(reasonUndecodable)
		return t.held - before
	}
	if from == nil {
		return 0
	}
	t.disk.carries = append(t.disk.carries, from)
	for i := range t.entries {
		e := &t.entries[i]
		t.held -= e.rows()
		e.old, e.new = carry(e.old, from), carry(e.new, from)
		t.held += e.rows()
	}
	return t.held - before
}

// mapping gives, for each column of b, the index of the column of a that has its name, or -1. It
// is nil where all are in their places. It is false where an image of a may say something else
// in b: a column has another type, so its values were rewritten, or columns, which keep their
// order in PostgreSQL, seem to have changed it, so their names were given anew.
func mapping(a, b *cdc.Relation) (from []int, ok bool) {
	same := len(a.Columns) == len(b.Columns)
	from = make([]int, len(b.Columns))
	last := -1
	for i := range b.Columns {
		j := a.Column(b.Columns[i].Name)
		from[i] = j
		same = same && j == i
		if j < 0 {
			continue
		}
		if j < last || a.Columns[j].Type != b.Columns[i].Type || a.Columns[j].Modifier != b.Columns[i].Modifier {
			return nil, false
		}
		last = j
	}
	if same {
		return nil, true
	}
	return from, true
}

// sameKeys tells whether the columns that b folds by are those that a did.
func sameKeys(a, b, from []int) bool {
	if (a == nil) != (b == nil) || len(a) != len(b) {
		return false
	}
	for i := range b {
		j := b[i]
		if from != nil {
			j = from[j]
		}
		if j != a[i] {
			return false
		}
	}
	return true
}

// carry gives a row in the order of the new description.
func carry(row cdc.Row, from []int) cdc.Row {
	if row == nil {
		return nil
	}
	out := make(cdc.Row, len(from))
	for i, j := range from {
		if j < 0 || j >= len(row) {
			out[i] = cdc.AbsentValue()
			continue
		}
		out[i] = row[j]
	}
	return out
}
