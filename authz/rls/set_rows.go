package rls

import (
	"slices"
	"sort"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A kept is a table of which sub-selects of policies read some columns, at one state of the
// catalog.
type kept struct {
	def *schema.TableDef
	// columns are indexes of def.Columns, in the order of the values of kept rows; indexes are
	// lists of positions among them.
	columns []int
	indexes [][]int
	*keeping
	// frozen tells that what it reads cannot be added to.
	frozen bool
}

// column gives the position of a column in kept rows, -1 where it is not among them.
func (k *kept) column(i int) int {
	if at := slices.Index(k.columns, i); at >= 0 {
		return at
	}
	if k.frozen {
		return -1
	}
	k.columns = append(k.columns, i)
	return len(k.columns) - 1
}

// index gives the number of the index over these positions, -1 where there is none.
func (k *kept) index(columns []int) int {
	for i, have := range k.indexes {
		if slices.Equal(have, columns) {
			return i
		}
	}
	if k.frozen {
		return -1
	}
	k.indexes = append(k.indexes, columns)
	return len(k.indexes) - 1
}

// A rowSet holds the rows of a table, with their recent history: what it was at the end of any
// transaction since floor. Rows that are alike in the kept columns are one entry and a number, so
// no key is needed, and updates of other columns change nothing. It is guarded by its owner.
type rowSet struct {
	entries map[string]*rowEntry
	indexes []rowIndex
	// log is the history, by the place of the transactions.
	log   []rowChange
	bytes int
}

type rowIndex struct {
	columns []int
	entries map[string][]*rowEntry
}

// A rowEntry is rows that are alike.
type rowEntry struct {
	row     cdc.Row
	count   int // at the end of the last transaction
	changes []rowDelta
}

type rowDelta struct {
	commit cdc.LSN
	n      int
}

type rowChange struct {
	commit cdc.LSN
	entry  *rowEntry
	n      int
}

func newRowSet(indexes [][]int) *rowSet {
	s := &rowSet{entries: map[string]*rowEntry{}}
	for _, columns := range indexes {
		s.indexes = append(s.indexes, rowIndex{columns, map[string][]*rowEntry{}})
	}
	return s
}

// at is how many rows there are at the end of a transaction.
func (e *rowEntry) at(commit cdc.LSN) int {
	n := e.count
	for i := len(e.changes) - 1; i >= 0 && e.changes[i].commit > commit; i-- {
		n -= e.changes[i].n
	}
	return n
}

// all calls row for each distinct row at the end of a transaction, while it gives true.
func (s *rowSet) all(commit cdc.LSN, row func(cdc.Row) bool) bool {
	for _, e := range s.entries {
		if e.at(commit) > 0 && !row(e.row) {
			return false
		}
	}
	return true
}

// find likewise, for those that an index has for a key.
func (s *rowSet) find(commit cdc.LSN, index int, key string, row func(cdc.Row) bool) bool {
	for _, e := range s.indexes[index].entries[key] {
		if e.at(commit) > 0 && !row(e.row) {
			return false
		}
	}
	return true
}

// entry gives the entry of a row, a new one where there is none.
func (s *rowSet) entry(row cdc.Row) *rowEntry {
	key := rowKey(row)
	e := s.entries[key]
	if e == nil {
		e = &rowEntry{row: slices.Clone(row)}
		s.entries[key] = e
		s.bytes += e.size()
		for i := range s.indexes {
			x := &s.indexes[i]
			if k, ok := x.key(row); ok {
				x.entries[k] = append(x.entries[k], e)
			}
		}
	}
	return e
}

// entryBytes is about what an entry takes besides its texts: itself, its place in the map and in
// an index, and its key.
const entryBytes = 240

func (e *rowEntry) size() int { return entryBytes + 2*e.row.Size() }

// add puts n rows that are alike into the set, as it is now.
func (s *rowSet) add(row cdc.Row, n int) { s.entry(row).count += n }

// note adds to the history that a transaction brought n rows, and to the present number unless
// the set has them already.
func (s *rowSet) note(row cdc.Row, commit cdc.LSN, n int, counted bool) {
	e := s.entry(row)
	if !counted {
		e.count += n
	}
	if last := len(e.changes) - 1; last >= 0 && e.changes[last].commit == commit {
		e.changes[last].n += n
	} else {
		e.changes = append(e.changes, rowDelta{commit, n})
	}
	s.log = append(s.log, rowChange{commit, e, n})
	s.bytes += changeBytes
}

// changeBytes is about what a change takes.
const changeBytes = 64

// changed gives the rows that a transaction made appear or vanish.
func (s *rowSet) changed(commit cdc.LSN) []cdc.Row {
	at := sort.Search(len(s.log), func(i int) bool { return s.log[i].commit >= commit })
	var out []cdc.Row
	for ; at < len(s.log) && s.log[at].commit == commit; at++ {
		e := s.log[at].entry
		if (e.at(commit) > 0) != (e.at(commit-1) > 0) {
			out = append(out, e.row)
		}
	}
	return out
}

// trim forgets what transactions up to one changed: nobody will ask for what was before.
func (s *rowSet) trim(commit cdc.LSN) {
	n := 0
	for ; n < len(s.log) && s.log[n].commit <= commit; n++ {
		e := s.log[n].entry
		for len(e.changes) > 0 && e.changes[0].commit <= commit {
			e.changes = e.changes[1:]
		}
		if len(e.changes) == 0 {
			e.changes = nil
			if e.count == 0 {
				s.remove(e)
			}
		}
	}
	s.bytes -= n * changeBytes
	s.log = slices.Clone(s.log[n:])
}

func (s *rowSet) remove(e *rowEntry) {
	key := rowKey(e.row)
	if s.entries[key] != e {
		return
	}
	delete(s.entries, key)
	s.bytes -= e.size()
	for i := range s.indexes {
		x := &s.indexes[i]
		k, ok := x.key(e.row)
		if !ok {
			continue
		}
		list := x.entries[k]
		at := slices.Index(list, e)
		list[at] = list[len(list)-1]
		list[len(list)-1] = nil
		if x.entries[k] = list[:len(list)-1]; len(list) == 1 {
			delete(x.entries, k)
		}
	}
}

// key is the index's key of a row; none where a value is NULL, which equals nothing.
func (x *rowIndex) key(row cdc.Row) (string, bool) {
	key := ""
	for _, at := range x.columns {
		if row[at].IsNull() {
			return "", false
		}
		key = appendKeyText(key, row[at].Text())
	}
	return key, true
}

// rowKey tells rows apart.
func rowKey(row cdc.Row) string {
	var b []byte
	for _, v := range row {
		if v.IsNull() {
			b = append(b, 'n')
			continue
		}
		b = append(b, appendKeyText("", v.Text())...)
	}
	return string(b)
}
