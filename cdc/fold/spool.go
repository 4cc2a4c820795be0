package fold

import (
	"bufio"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A spool is a file of sorted runs of records, without a name from the moment it is made: it is
// gone when it is closed, or when the process ends in whatever way.
type spool struct {
	file *os.File
	w    *bufio.Writer
	end  int64 // of what was written
	// largest is the size of the largest record.
	largest int
	// runs has where each run begins.
	runs []int64
}

// pattern are the names that the files have for a moment. Only their owner can read them.
const pattern = "rowtide-spill-*"

// writeBuffer is what is written at once.
const writeBuffer = 64 << 10

func newSpool(dir string) (*spool, error) {
	file, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, fmt.Errorf("make spill file: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make spill file: %w", err), file.Close())
	}
	return &spool{file: file, w: bufio.NewWriterSize(file, writeBuffer), runs: []int64{0}}, nil
}

// removeLeft removes files of a process that ended between making one and taking its name away.
// Where it takes the name of another's, that one was about to do the same.
func removeLeft(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well formed
	for _, name := range left {
		_ = os.Remove(name) // another user's is not ours to remove
	}
}

func (s *spool) write(b []byte) error {
	n, err := s.w.Write(b)
	s.end += int64(n)
	s.largest = max(s.largest, len(b))
	if err != nil {
		return s.full(err)
	}
	return nil
}

// endRun ends the present run: the next record begins another.
func (s *spool) endRun() {
	if s.runs[len(s.runs)-1] != s.end {
		s.runs = append(s.runs, s.end)
	}
}

func (s *spool) close() { _ = s.file.Close() } // it has no name: nothing is left of it

// finish ends the writing: from then on runs can be read.
func (s *spool) finish() error {
	s.endRun()
	if err := s.w.Flush(); err != nil {
		return s.full(err)
	}
	return nil
}

func (s *spool) full(err error) error {
	return fmt.Errorf("write spill file in %s: %w: free some space there or name another --spill-dir", filepath.Dir(s.file.Name()), err)
}

// fan is how many runs can be merged at once within that memory: of each there is a record and
// a buffer.
func (s *spool) fan(memory int) int { return max(memory/(s.largest+leastBuffer), 2) }

// The least and the most that is read at once.
const (
	leastBuffer = 4 << 10
	mostBuffer  = 256 << 10
)

// merge gives the records of the runs from one to another in one order, the older run's first
// where they are equal, without those that no longer count. A record is valid until the visit
// returns, its rows for ever.
func (s *spool) merge(ctx context.Context, m merging, from, to int, visit func(*record) error) error {
	h := cursors{order: m.order}
	buffer := min(max(m.memory/max(to-from, 1), leastBuffer), mostBuffer)
	var shared []byte
	for i := from; i < to; i++ {
		c := &cursor{run: i, tables: m.tables, buf: &shared}
		c.from = bufio.NewReaderSize(io.NewSectionReader(s.file, s.runs[i], s.runs[i+1]-s.runs[i]), buffer)
		if err := c.next(); err == nil {
			h.list = append(h.list, c)
		} else if !errors.Is(err, io.EOF) {
			return err
		}
	}
	heap.Init(&h)
	for len(h.list) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := h.list[0]
		if err := visit(&c.now); err != nil {
			return err
		}
		if err := c.next(); err == nil {
			heap.Fix(&h, 0)
		} else if errors.Is(err, io.EOF) {
			heap.Pop(&h)
		} else {
			return err
		}
	}
	return nil
}

// A merging is how runs are merged.
type merging struct {
	tables []*table
	memory int
	order  func(a, b *record) int
}

// A cursor reads a run.
type cursor struct {
	run    int
	from   *bufio.Reader
	tables []*table
	now    record
	buf    *[]byte // shared: a record is read at once
}

// next reads up to the next record that counts, and carries it over to the present description
// of its table.
func (c *cursor) next() error {
	for {
		if err := c.now.read(c.from, c.buf); err != nil {
			return err
		}
		if c.now.table >= len(c.tables) {
			return fmt.Errorf("%w: there is no table %d", errCorrupt, c.now.table)
		}
		t := c.tables[c.now.table]
		if t.gap != "" || c.now.epoch != t.disk.epoch {
			continue
		}
		e := &c.now.entry
		for _, from := range t.disk.carries[min(c.now.version, len(t.disk.carries)):] {
			e.old, e.new = carry(e.old, from), carry(e.new, from)
		}
		c.now.version = len(t.disk.carries)
		return nil
	}
}

// cursors is a heap of them.
type cursors struct {
	list  []*cursor
	order func(a, b *record) int
}

// Len is heap.Interface's.
func (h *cursors) Len() int { return len(h.list) }

// Less is heap.Interface's.
func (h *cursors) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	return cmp.Or(h.order(&a.now, &b.now), cmp.Compare(a.run, b.run)) < 0
}

// Swap is heap.Interface's.
func (h *cursors) Swap(i, j int) { h.list[i], h.list[j] = h.list[j], h.list[i] }

// Push is heap.Interface's. Nothing is ever pushed.
func (h *cursors) Push(any) {}

// Pop is heap.Interface's.
func (h *cursors) Pop() any {
	last := h.list[len(h.list)-1]
	h.list = h.list[:len(h.list)-1]
	return last
}
