package fold

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/cdc"
)

// A transaction larger than memory is sorted on disk, twice. What memory holds of it is a net
// effect for each key, and goes to disk as one run in the order of the keys each time memory is
// full. At the end the runs are merged: the effects of one key, in the order of the runs, become
// one by the rules by which changes do. What comes out is sorted by the time of its last change,
// and merged again into the order of the events.

// onDisk is what a table has on disk.
type onDisk struct {
	// used tells that there is something on disk which counts.
	used bool
	// epoch counts what made the records on disk void: of another epoch they do not count.
	epoch uint32
	// carries are the mappings of relation.go since the transaction began: a record says how
	// many there were when it was written.
	carries [][]int
	// doubt is why the last change could not be taken, where not for what it said.
	doubt string
}

func (d *onDisk) forget() {
	if d.used {
		d.used = false
		d.epoch++
	}
}

// knows tells whether a row that takes another key has all values that the transaction has told.
// Without full identity an image on disk may have told one that the row leaves unchanged.
func (t *table) knows(row cdc.Row) bool {
	if !t.disk.used || !slices.ContainsFunc(row, func(v cdc.Value) bool { return v.Kind() == cdc.Unchanged }) {
		return true
	}
	t.disk.doubt = reasonSize
	return false
}

// A disk has the two files of a transaction: effects by key, and by time.
type disk struct {
	dir    string
	quota  int64
	memory int

	byKey, byTime *spool
	buf           []byte
	garbage       int // bytes, about, since the last collection
}

func newDisk(dir string, quota int64, memory int) (*disk, error) {
	removeLeft(dir)
	s, err := newSpool(dir)
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	s.close()
	return &disk{dir: dir, quota: quota, memory: memory}, nil
}

func (d *disk) clear() {
	for _, s := range []**spool{&d.byKey, &d.byTime} {
		if *s != nil {
			(*s).close()
			*s = nil
		}
	}
}

// errQuota says that a transaction needs more disk than it may have.
var errQuota = errors.New("quota of the spill is used up")

// add writes a record to the present run of a spool, which is made where it is not there.
func (d *disk) add(to **spool, r *record) error {
	if *to == nil {
		s, err := newSpool(d.dir)
		if err != nil {
			return err
		}
		*to = s
	}
	d.buf = r.append(d.buf[:0])
	if d.size()+int64(len(d.buf)) > d.quota {
		return errQuota
	}
	return (*to).write(d.buf)
}

func (d *disk) size() (n int64) {
	for _, s := range []*spool{d.byKey, d.byTime} {
		if s != nil {
			n += s.end
		}
	}
	return n
}

// spill puts what memory holds on disk. Where that cannot be, the transaction is given up: over
// the quota for Gaps, and else for err, which Finish gives.
func (f *Folder) spill() {
	if f.disk == nil {
		f.giveUp()
		return
	}
	for _, t := range f.seen {
		if t.gap != "" || len(t.entries) == 0 {
			continue
		}
		if err := f.disk.unload(t); err != nil {
			f.giveUp()
			f.disk.clear()
			if !errors.Is(err, errQuota) {
				f.err = fmt.Errorf("spill transaction: %w", err)
			}
			return
		}
	}
	if f.disk.byKey != nil {
		f.disk.byKey.endRun()
	}
	f.bytes = f.messageBytes
	f.disk.used(f.cfg.MaxBytes)
}

// used notes that so many bytes of memory are free again, and has them collected from time to
// time. By itself the collector would let the garbage of a transaction of any size grow as large
// as all else that the process holds.
func (d *disk) used(bytes int) {
	const worthIt = 4 << 20
	if d.garbage += bytes; d.garbage >= max(d.memory, worthIt) {
		d.garbage = 0
		runtime.GC()
	}
}

// unload writes a table's entries in the order of their keys, and forgets them in memory.
func (d *disk) unload(t *table) error {
	type keyed struct {
		key   string
		entry int32
	}
	var order []keyed
	if t.key != nil {
		order = make([]keyed, 0, len(t.keys))
		for key, i := range t.keys {
			order = append(order, keyed{key, i})
		}
		slices.SortFunc(order, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	} else {
		for i := range t.entries {
			order = append(order, keyed{"", int32(i)}) //nolint:gosec // an index of entries
		}
	}
	r := record{table: t.index, epoch: t.disk.epoch, version: len(t.disk.carries)}
	for _, k := range order {
		r.key, r.entry = append(r.key[:0], k.key...), t.entries[k.entry]
		if err := d.add(&d.byKey, &r); err != nil {
			return err
		}
	}
	t.disk.used = true
	t.unload()
	return nil
}

// settle makes one effect for each key where something is on disk, and tells whether that is so.
func (f *Folder) settle(ctx context.Context) (onDisk bool, err error) {
	if f.err == nil && f.disk != nil && f.disk.byKey != nil && !f.over {
		f.spill()
	}
	if f.err != nil || f.over || f.gapAll != "" || f.disk == nil || f.disk.byKey == nil {
		return false, f.err
	}
	err = f.disk.merge(ctx, f.seen, &f.ahead)
	if errors.Is(err, errQuota) {
		f.giveUp()
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("fold spilled transaction: %w", err)
	}
	return true, nil
}

// merge reads the effects by key, makes one of each key's, and sorts these by time.
func (d *disk) merge(ctx context.Context, tables []*table, told *ahead) error {
	m := merger{d: d, tables: tables, ahead: told}
	err := d.sorted(ctx, &d.byKey, merging{tables, d.memory, byKey}, m.take)
	if err == nil {
		err = m.key()
	}
	if err == nil {
		err = m.run()
	}
	d.byKey.close()
	d.byKey = nil
	return err
}

// byKey orders records by table and key. Runs of equal records follow each other as written.
func byKey(a, b *record) int {
	if c := cmp.Compare(a.table, b.table); c != 0 {
		return c
	}
	return bytes.Compare(a.key, b.key)
}

func byTime(a, b *record) int { return inTime(&a.entry, &b.entry) }

// replay gives the events of what was merged, in the order of their time.
func (d *disk) replay(ctx context.Context, tables []*table, add func(cdc.Event) error) error {
	if d.byTime == nil {
		return nil
	}
	err := d.sorted(ctx, &d.byTime, merging{tables, d.memory, byTime}, func(r *record) error {
		d.used(entryBytes + r.entry.rows())
		return add(r.entry.event(tables[r.table].rel))
	})
	if err != nil {
		return fmt.Errorf("read spilled transaction: %w", err)
	}
	return nil
}

// sorted gives all records of a spool in one order. Where it has more runs than can be merged at
// once, they first become fewer.
func (d *disk) sorted(ctx context.Context, s **spool, m merging, visit func(*record) error) error {
	if err := (*s).finish(); err != nil {
		return err
	}
	for {
		runs, fan := len((*s).runs)-1, (*s).fan(m.memory)
		if runs <= fan {
			return (*s).merge(ctx, m, 0, runs, visit)
		}
		if err := d.narrow(ctx, s, m, fan); err != nil {
			return err
		}
	}
}

// narrow makes one run of as many as can be merged at once, all over the spool.
func (d *disk) narrow(ctx context.Context, s **spool, m merging, fan int) error {
	next, err := newSpool(d.dir)
	if err != nil {
		return err
	}
	old := *s
	defer old.close()
	*s = next
	for from := 0; from < len(old.runs)-1; from += fan {
		err := old.merge(ctx, m, from, min(from+fan, len(old.runs)-1), func(r *record) error {
			d.buf = r.append(d.buf[:0])
			if d.size()+old.end+int64(len(d.buf)) > d.quota {
				return errQuota
			}
			return next.write(d.buf)
		})
		if err != nil {
			return err
		}
		next.endRun()
	}
	return next.finish()
}

// A merger makes one effect of those that follow each other with the same key.
type merger struct {
	d      *disk
	tables []*table
	ahead  *ahead

	now  record // the effect so far of the present key
	held bool   // there is one

	runs []record // for byTime, until memory is full
	size int
}

func (m *merger) take(r *record) error {
	t := m.tables[r.table]
	if m.held && t.key != nil && byKey(&m.now, r) == 0 {
		if !compose(t, &m.now.entry, &r.entry) {
			t.giveUp(reasonUndecodable)
		}
		return nil
	}
	if err := m.key(); err != nil {
		return err
	}
	m.now, m.held = *r, true
	m.now.key = bytes.Clone(r.key)
	return nil
}

// key ends the present key.
func (m *merger) key() error {
	if !m.held {
		return nil
	}
	m.held = false
	t := m.tables[m.now.table]
	if t.gap == "" && t.truncated && m.now.entry.existed {
		t.giveUp(reasonUndecodable)
	}
	if t.gap != "" || m.now.entry.none() {
		return nil
	}
	m.now.key = nil
	m.ahead.note(t, &m.now.entry)
	m.runs = append(m.runs, m.now)
	if m.size += entryBytes + m.now.entry.rows(); m.size > m.d.memory {
		return m.run()
	}
	return nil
}

// run writes a run by time.
func (m *merger) run() error {
	slices.SortFunc(m.runs, func(a, b record) int { return byTime(&a, &b) })
	for i := range m.runs {
		if err := m.d.add(&m.d.byTime, &m.runs[i]); err != nil {
			return err
		}
	}
	if m.d.byTime != nil {
		m.d.byTime.endRun()
	}
	clear(m.runs)
	m.d.used(m.size)
	m.runs, m.size = m.runs[:0], 0
	return nil
}

// compose makes a the effect of a and then b, by the rules of table.go. It is false where b
// cannot follow a.
func compose(t *table, a, b *entry) bool {
	if (a.new != nil) != b.existed || !compatible(a.new, b.old) {
		return false
	}
	if a.existed && a.old == nil && b.old != nil {
		a.old = t.keyOnly(b.old)
	}
	if b.new != nil {
		b.new = fill(b.new, a.new)
	}
	a.new, a.last = b.new, b.last
	return true
}
