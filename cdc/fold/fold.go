// Package fold reduces a transaction to its net effect: at most one change of each key, from
// the image before the transaction to the image after it.
//
// Guarantees, for a table whose key is known:
//   - Applying the folded events, in order, to the table as it was before the transaction gives
//     the table as it is after it. Each event is a difference: a key whose images are equal has
//     none.
//   - A row that did not exist before is an Insert, one that does not exist after is a Delete,
//     one that existed before and after is an Update, whatever happened in between. A changed
//     key is a Delete of the old and an Insert of the new.
//   - A Truncate comes before the changes, once for a relation, and voids what preceded it.
//   - Order is that of each key's last change. Seq counts from 0.
//   - An image that no other session could have seen is in no event.
//   - Nothing is lost in silence: what cannot be folded becomes a Gap. That is a transaction
//     larger than MaxBytes and SpillBytes ("transaction_size"), and a relation of which the stream says what
//     cannot be true of a key, such as an insert of a key that is there ("undecodable").
//
// Keys are compared by the text of their values, as everywhere in Rowtide: numeric 1.0 and 1.00
// are two keys.
//
// A relation may change in the middle of a transaction (DDL). All events of a transaction are
// given with the last description of their relation; images from before the change are carried
// over by column name, and a column that did not exist then is Absent. Where that may be wrong
// (a type, the key or the order of the names has changed) the relation becomes a Gap, if the
// transaction had changed it before. A column that is dropped and made again under its old name,
// last in the table both times, looks unchanged to the stream and is taken for the same.
//
// It does not guarantee anything for a table whose key is unknown: its events pass as they are,
// in their place among the others.
package fold

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/rowtide/rowtide/cdc"
)

// The reasons of the Gaps that a Folder makes.
const (
	reasonSize        = "transaction_size"
	reasonUndecodable = "undecodable"
)

// Config configures a Folder.
type Config struct {
	// Key gives the indexes in rel.Columns of the columns that identify a row, or nil where
	// they are unknown. It is asked once for each relation of a transaction. The sequence of
	// events follows from it, so nodes that read the same WAL must give the same answer.
	// Required.
	Key func(rel *cdc.Relation) []int
	// Ahead gives the relations that policies ask: their events come with the first batch of a
	// transaction already, where it has several. More than MaxBytes of them are a Gap there.
	// Numbers of events do not hang on it. Defaults to none.
	Ahead func() []uint32
	// MaxBytes bounds the memory that the changes of one transaction take before they go to
	// disk, or where there is no SpillDir are given up for Gaps. Defaults to 8 MiB.
	MaxBytes int
	// SpillDir is where the files of a transaction larger than MaxBytes are made. They have no
	// name there, so that nothing is left whatever happens. Defaults to none.
	SpillDir string
	// SpillBytes bounds these files; a transaction that needs more is given up for Gaps. It
	// needs up to twice its size. Defaults to 16 GiB.
	SpillBytes int64
	// BatchBytes is the size at which a batch is closed; one event larger than it travels
	// alone. Defaults to 1 MiB.
	BatchBytes int
	// BatchEvents is the most events of a batch. Defaults to 4096.
	BatchEvents int
}

func (c *Config) check() error {
	if c.Key == nil {
		return errors.New("make folder: Key is missing")
	}
	for _, f := range []struct {
		name      string
		value     *int
		otherwise int
	}{
		{"MaxBytes", &c.MaxBytes, 8 << 20},
		{"BatchBytes", &c.BatchBytes, 1 << 20},
		{"BatchEvents", &c.BatchEvents, 4096},
	} {
		if *f.value < 0 {
			return fmt.Errorf("make folder: %s is negative", f.name)
		}
		if *f.value == 0 {
			*f.value = f.otherwise
		}
	}
	if c.SpillBytes < 0 {
		return errors.New("make folder: SpillBytes is negative")
	}
	if c.SpillBytes == 0 {
		c.SpillBytes = 16 << 30
	}
	return nil
}

// A Folder folds one transaction after the other: Begin, then the changes in the order of the
// stream, then Finish. Only one goroutine may use it.
type Folder struct {
	cfg Config

	tables map[uint32]*table
	seen   []*table // in order of appearance
	spare  []*table // of earlier transactions, empty
	// clock counts the changes of the transaction: it orders them.
	clock uint64
	// bytes is what the changes and messages hold.
	bytes        int
	messages     []cdc.Message
	messageBytes int
	// over is set once the transaction was too large: only relations are noted from then on.
	over bool
	// gapAll is the reason of a Gap of all relations, or "".
	gapAll string

	// disk has what memory could not hold; err is why it could not be used.
	disk *disk
	err  error

	refs    []ref
	scratch []cdc.Event
	ahead   ahead
}

// New makes a Folder. Where SpillDir is set it makes sure that files can be made there, and
// removes what an earlier process left.
func New(cfg Config) (*Folder, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	f := &Folder{cfg: cfg, tables: make(map[uint32]*table)}
	if cfg.SpillDir != "" {
		var err error
		if f.disk, err = newDisk(cfg.SpillDir, cfg.SpillBytes, cfg.MaxBytes); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Close forgets the transaction and frees its files. The Folder can be used again.
func (f *Folder) Close() { f.Begin() }

// Err tells why the transaction cannot be folded: files cannot be written. Finish gives it too.
func (f *Folder) Err() error { return f.err }

// Begin starts a transaction. What was held of another one, cut off by a lost connection, is
// forgotten.
func (f *Folder) Begin() {
	for _, t := range f.seen {
		t.reset()
		f.spare = append(f.spare, t)
	}
	clear(f.tables)
	f.seen = f.seen[:0]
	f.clock, f.bytes, f.messageBytes = 0, 0, 0
	f.messages = nil
	f.over, f.gapAll, f.err = false, "", nil
	f.ahead = ahead{}
	if f.disk != nil {
		f.disk.clear()
	}
}

// Add takes the next change of the transaction. The event's rows belong to the Folder from then
// on.
func (f *Folder) Add(ev cdc.Event) {
	switch ev.Op {
	case cdc.Insert, cdc.Update, cdc.Delete:
		t := f.table(ev.Relation)
		if f.over || t.gap != "" {
			return
		}
		f.clock++
		f.bytes += t.add(&ev, f.clock)
		f.bound()
	case cdc.Truncate:
		f.Truncate(ev.Relation)
	case cdc.Gap:
		f.addGap(&ev)
	}
}

// Truncate takes a truncation of relations: their changes so far are void.
func (f *Folder) Truncate(rels ...*cdc.Relation) {
	for _, rel := range rels {
		t := f.table(rel)
		f.bytes -= t.drop()
		t.truncated = true
	}
}

// Message takes a logical message.
func (f *Folder) Message(m cdc.Message) {
	n := 48 + len(m.Content)
	f.messages = append(f.messages, m)
	f.messageBytes += n
	f.bytes += n
	f.bound()
}

// addGap notes a loss that the decoder tells: nothing said of the relation counts any more.
func (f *Folder) addGap(ev *cdc.Event) {
	if ev.Relation == nil {
		f.gapAll = ev.Reason
		f.giveUp()
		return
	}
	t := f.table(ev.Relation)
	if t.gap == "" {
		f.bytes -= t.giveUp(ev.Reason)
	}
}

// bound puts the changes on disk, or gives the transaction up, where it holds more than it may.
// Messages say what the schema is and stay in memory, so losing them concerns every relation.
func (f *Folder) bound() {
	if f.bytes <= f.cfg.MaxBytes {
		return
	}
	if f.messageBytes > f.cfg.MaxBytes/2 {
		f.giveUp()
		f.messages, f.messageBytes, f.bytes = nil, 0, 0
		f.gapAll = cmp.Or(f.gapAll, reasonSize)
		return
	}
	f.spill()
}

func (f *Folder) giveUp() {
	f.over = true
	for _, t := range f.seen {
		if t.gap == "" {
			t.giveUp(reasonSize)
		}
	}
	f.bytes = f.messageBytes
}

// table gives the state of a relation, in its present description.
func (f *Folder) table(rel *cdc.Relation) *table {
	t := f.tables[rel.OID]
	if t == nil {
		t = f.newTable(rel)
	}
	if t.rel != rel {
		f.bytes += t.describe(rel, f.key(rel))
	}
	return t
}

func (f *Folder) newTable(rel *cdc.Relation) *table {
	var t *table
	if n := len(f.spare); n > 0 {
		t, f.spare = f.spare[n-1], f.spare[:n-1]
	} else {
		t = &table{keys: make(map[string]int32)}
	}
	t.rel, t.index = rel, len(f.seen)
	t.key = f.key(rel)
	if f.over {
		t.gap = reasonSize
	}
	f.tables[rel.OID] = t
	f.seen = append(f.seen, t)
	return t
}

// key gives the columns to fold by. The old images of a relation without full identity have the
// columns of the identity alone, so where the key is not among them the identity, which tells
// rows apart as well, stands for it.
func (f *Folder) key(rel *cdc.Relation) []int {
	key := f.cfg.Key(rel)
	if len(key) == 0 {
		return nil
	}
	if rel.Identity == cdc.IdentityFull || rel.Identity == cdc.IdentityNothing {
		return key
	}
	covered := true
	for _, i := range key {
		covered = covered && rel.Columns[i].Identity
	}
	if covered {
		return key
	}
	var identity []int
	for i := range rel.Columns {
		if rel.Columns[i].Identity {
			identity = append(identity, i)
		}
	}
	return identity
}
