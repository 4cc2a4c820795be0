package feedtest

import "github.com/jackc/pglogrepl"

// An OrderValidator needs nothing but the frames.
//
// The guarantee: The changes of a subscription come in commit order, transaction by transaction,
// with no other in between; none comes twice, and no row has two in one transaction. TRUNCATE
// comes before all other changes of its transaction. The last frame of a transaction on the
// subscription says so, and no other does. A snapshot is RESET, then SNAPSHOT and nothing else,
// each row once, then LIVE.
//
// It cannot see the order of rows within a transaction: cursors are opaque. The
// CompletenessValidator does.
type OrderValidator struct {
	failures
	current  *Transaction
	commit   pglogrepl.LSN
	ended    map[string]bool // by id of the transaction
	rows     map[string]bool // of the current transaction
	cursors  map[string]bool
	cursor   string          // of the last change
	changes  int             // in the current transaction, but TRUNCATE
	snapshot map[string]bool // rows, while one comes
}

// NewOrderValidator makes one for a subscription.
func NewOrderValidator() *OrderValidator {
	return &OrderValidator{ended: make(map[string]bool), cursors: make(map[string]bool)}
}

// begin forgives that the transaction of before ends without its last frame.
func (v *OrderValidator) begin(pglogrepl.LSN) { v.current = nil }

// Note takes the next frame.
func (v *OrderValidator) Note(f *Frame) {
	switch {
	case f.Kind == Reset:
		v.leave()
		v.snapshot = make(map[string]bool)
	case f.Kind == Live:
		v.snapshot = nil
	case f.Kind == Snapshot:
		v.row(f)
	case f.change():
		v.change(f)
	}
}

func (v *OrderValidator) row(f *Frame) {
	if v.snapshot == nil {
		v.add("out of order: %s outside of a snapshot", f)
		return
	}
	if v.snapshot[f.RowID] {
		v.add("duplicate: %s in one snapshot", f)
	}
	v.snapshot[f.RowID] = true
}

func (v *OrderValidator) change(f *Frame) {
	if v.snapshot != nil {
		v.add("out of order: %s inside of a snapshot", f)
	}
	if f.Transaction == nil {
		v.add("no transaction: %s", f)
		return
	}
	if v.cursors[f.Cursor] && !v.shared(f) {
		v.add("duplicate: %s has a cursor that came before", f)
	}
	v.cursors[f.Cursor] = true
	if v.current == nil || v.current.ID != f.Transaction.ID {
		v.enter(f)
	} else {
		v.within(f)
	}
	v.current, v.cursor = f.Transaction, f.Cursor
	if f.Kind == Truncate {
		if v.changes > 0 {
			v.add("out of order: %s comes after changes of its transaction", f)
		}
		return
	}
	v.changes++
	if v.rows[f.RowID] {
		v.add("duplicate: %s is a second change of its row in one transaction", f)
	}
	v.rows[f.RowID] = true
}

// shared tells that the cursor is that of the frame before, as in frames of rows that come and go with
// one change of membership.
func (v *OrderValidator) shared(f *Frame) bool {
	return f.Cursor == v.cursor && v.current != nil && v.current.ID == f.Transaction.ID && (f.Kind == Enter || f.Kind == Leave)
}

// enter begins a transaction.
func (v *OrderValidator) enter(f *Frame) {
	v.leave()
	if v.ended[f.Transaction.ID] {
		v.add("out of order: %s is of a transaction that was over", f)
	}
	at := f.Commit()
	switch {
	case at == 0 || v.commit == 0:
	case at < v.commit:
		v.add("out of order: %s comes after the commit at %s", f, v.commit)
	case at == v.commit:
		v.add("wrong transaction: %s has another id than what came before", f)
	}
	v.commit = max(v.commit, at)
	v.rows = make(map[string]bool)
	v.changes = 0
}

func (v *OrderValidator) within(f *Frame) {
	if v.current.Last {
		v.add("wrong last: %s follows the last frame of its transaction", f)
	}
	if f.Transaction.CommitLSN != v.current.CommitLSN || f.Transaction.CommitTime != v.current.CommitTime || f.Transaction.XID != v.current.XID {
		v.add("wrong transaction: %s does not agree with what came before", f)
	}
}

// leave ends the present transaction.
func (v *OrderValidator) leave() {
	if v.current == nil {
		return
	}
	if !v.current.Last {
		v.add("wrong last: the transaction at %s ended without", v.current.CommitLSN)
	}
	v.ended[v.current.ID] = true
	v.current = nil
}

// Failures says where the guarantee was broken.
func (v *OrderValidator) Failures() []string {
	v.leave()
	return v.all()
}
