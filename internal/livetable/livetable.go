// Package livetable shows the rows of a subscription in a terminal, as they appear, change and
// leave.
//
// A Table is a value that is fed changes and gives lines; Show draws it again whenever something
// is different, the size of the terminal included. What rows hold is printed so that it cannot
// steer the terminal: control characters and what is invisible are escaped.
package livetable

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// markFor is how long a row shows that it is new, changed or gone.
const markFor = 3 * time.Second

// maxRows bounds what is kept; the rows that have been still for longest are forgotten beyond it.
const maxRows = 10_000

// A Change is what the table has to know of one.
type Change struct {
	Kind  string
	RowID string
	// Row is nil where the change has none.
	Row    map[string]json.RawMessage
	Reason string
}

// A Table is what is shown. Its methods may be called from many goroutines.
type Table struct {
	title   string
	columns []string

	mu      sync.Mutex
	rows    []*row // in the order of their coming
	byID    map[string]*row
	changes int
	status  string
	forgot  int
	dirty   bool
}

// A row is one that is shown, or that was a moment ago.
type row struct {
	id      string
	cells   []string
	changed []bool
	mark    mark
	since   time.Time // of the mark
}

// A mark says what happened to a row.
type mark byte

const (
	still   mark = ' '
	came    mark = '+'
	updated mark = '~'
	gone    mark = '-'
)

// New makes an empty table of these columns.
func New(title string, columns []string) *Table {
	return &Table{title: printable(title), columns: columns, byID: map[string]*row{}, status: "connecting", dirty: true}
}

// Say sets what is told of the connection.
func (t *Table) Say(status string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status, t.dirty = printable(status), true
}

// Apply follows the rule of all clients: RESET or TRUNCATE clear, a row is put at its id, an id
// without one is removed, all else is no matter.
func (t *Table) Apply(c Change, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty = true
	switch {
	case c.Kind == "RESET":
		t.rows, t.byID, t.forgot = nil, map[string]*row{}, 0
		t.status = "reading the present rows"
	case c.Kind == "TRUNCATE":
		for _, r := range t.rows {
			r.set(gone, now)
		}
		t.changes++
	case c.Kind == "LIVE":
		t.status = "live"
	case c.Row != nil:
		t.putLocked(c, now)
	case c.RowID != "":
		if r := t.byID[c.RowID]; r != nil {
			r.set(gone, now)
		}
		t.changes++
	}
}

func (t *Table) putLocked(c Change, now time.Time) {
	cells := make([]string, len(t.columns))
	for i, name := range t.columns {
		cells[i] = cell(c.Row[name])
	}
	if c.Kind == "SNAPSHOT" {
		t.status = fmt.Sprintf("reading the present rows, %d so far", len(t.rows)+1)
	} else {
		t.changes++
	}
	r := t.byID[c.RowID]
	if r == nil {
		r = &row{id: c.RowID, cells: cells, changed: make([]bool, len(cells)), mark: still}
		t.byID[c.RowID] = r
		t.rows = append(t.rows, r)
		if c.Kind != "SNAPSHOT" {
			r.set(came, now)
		}
		t.forgetLocked()
		return
	}
	if r.mark == gone {
		r.set(came, now)
	} else {
		r.set(updated, now)
	}
	for i := range cells {
		r.changed[i] = cells[i] != r.cells[i]
	}
	r.cells = cells
}

func (r *row) set(m mark, now time.Time) { r.mark, r.since = m, now }

// forgetLocked keeps the table within maxRows.
func (t *Table) forgetLocked() {
	if len(t.rows) <= maxRows {
		return
	}
	oldest := 0
	for i, r := range t.rows {
		if r.since.Before(t.rows[oldest].since) {
			oldest = i
		}
	}
	delete(t.byID, t.rows[oldest].id)
	t.rows = slices.Delete(t.rows, oldest, oldest+1)
	t.forgot++
}

// settleLocked ends marks that were shown for long enough.
func (t *Table) settleLocked(now time.Time) {
	t.rows = slices.DeleteFunc(t.rows, func(r *row) bool {
		if r.mark == still || now.Sub(r.since) < markFor {
			return false
		}
		if r.mark == gone {
			delete(t.byID, r.id)
			t.dirty = true
			return true
		}
		r.mark, t.dirty = still, true
		return false
	})
}
