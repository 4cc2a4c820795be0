package fold

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
)

// some tries a property 300 times: each makes files.
func some(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	for range 3 {
		rapid.Check(t, property)
	}
}

// numbered gives the events of a transaction, by Seq.
func numbered(t *rapid.T, f *Folder) []string {
	var out []string
	err := f.Finish(context.Background(), testTransaction, func(b *cdc.Batch) error {
		for i := range b.Events {
			out = append(out, strconv.Itoa(int(b.Events[i].Seq))+" "+line(&b.Events[i]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A transaction of any size folds as it does in memory: the same events with the same numbers,
// whatever the limit, so that every node gives a change the same cursor. What is held never
// passes the limit.
//
// Covers C66, C116.
func TestASpilledTransactionFoldsAsInMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spilled := 0
	some(t, func(t *rapid.T) {
		two := rapid.Bool().Draw(t, "two columns in the key")
		limit := rapid.IntRange(1, 2500).Draw(t, "limit")
		w := newWorld(t, cdc.IdentityFull, two, Config{})
		small, err := New(Config{Key: worldKey(two), MaxBytes: limit, SpillDir: dir, BatchEvents: 3})
		if err != nil {
			t.Fatal(err)
		}
		w.also = small
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			w.step(t, two)
			if small.bytes > limit {
				t.Fatalf("%d bytes held, %d allowed", small.bytes, limit)
			}
		}
		if small.disk.byKey != nil {
			spilled++
		}
		if diff := cmp.Diff(numbered(t, w.f), numbered(t, small)); diff != "" {
			t.Fatalf("in memory and on disk (limit %d):\n%s\n%s", limit, diff, strings.Join(w.log, "\n"))
		}
	})
	if spilled == 0 {
		t.Error("no transaction was spilled")
	}
}

// Under default identity an image on disk may have told what a changed key's row leaves out:
// then, and only then, the relation becomes a Gap.
func TestASpilledTransactionUnderDefaultIdentity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	same := 0
	some(t, func(t *rapid.T) {
		two := rapid.Bool().Draw(t, "two columns in the key")
		w := newWorld(t, cdc.IdentityDefault, two, Config{})
		small, err := New(Config{Key: worldKey(two), MaxBytes: rapid.IntRange(1, 2500).Draw(t, "limit"), SpillDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		w.also = small
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			w.step(t, two)
		}
		memory, disk := changes(numbered(t, w.f)), changes(numbered(t, small))
		if len(disk) == len(memory) {
			same++
		}
		for table, got := range disk {
			if slices.Equal(got, []string{"gap " + table + " transaction_size"}) {
				continue
			}
			if diff := cmp.Diff(memory[table], got); diff != "" {
				t.Fatalf("in memory and on disk: %s\n%s", diff, strings.Join(w.log, "\n"))
			}
		}
		for table := range memory {
			if disk[table] == nil {
				t.Fatalf("nothing is told of %s", table)
			}
		}
	})
	if same == 0 {
		t.Error("no transaction came out whole")
	}
}

// changes sorts events by table, without their numbers.
func changes(all []string) map[string][]string {
	out := make(map[string][]string)
	for _, l := range all {
		_, l, _ = strings.Cut(l, " ")
		table := strings.Fields(l)[1]
		out[table] = append(out[table], l)
	}
	return out
}

// spiller gives a folder that spills every few events, and one that does not.
func spiller(t *testing.T, cfg Config) (small, memory *Folder) {
	t.Helper()
	cfg.SpillDir = t.TempDir()
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1000
	}
	small = newFolder(t, cfg)
	t.Cleanup(small.Close)
	return small, newFolder(t, Config{Key: cfg.Key})
}

func both(ev cdc.Event, folders ...*Folder) {
	for _, f := range folders {
		e := ev
		e.Old, e.New = slices.Clone(ev.Old), slices.Clone(ev.New)
		f.Add(e)
	}
}

func told(t *testing.T, f *Folder) []string {
	t.Helper()
	return lines(finish(t, f))
}

// DDL in the middle of a spilled transaction carries what is on disk over, as it does in memory.
//
// Covers C52.
func TestDDLInASpilledTransaction(t *testing.T) {
	t.Parallel()
	small, memory := spiller(t, Config{})
	before := relation(1, "a", cdc.IdentityFull)
	after := relation(1, "a", cdc.IdentityFull)
	after.Columns = append(slices.Clone(after.Columns), cdc.Column{Name: "w", Type: textOID, Modifier: -1, Identity: true})
	for i := range 50 {
		both(insert(before, strconv.Itoa(i), "x"), small, memory)
	}
	for i := range 20 {
		id := strconv.Itoa(i)
		both(cdc.Event{Op: cdc.Update, Relation: after, Old: row(id, "x", "-"), New: row(id, "x", "w")}, small, memory)
	}
	if small.disk.byKey == nil {
		t.Fatal("nothing was spilled")
	}
	if diff := cmp.Diff(told(t, memory), told(t, small)); diff != "" {
		t.Error(diff)
	}

	small.Begin()
	both(insert(before, "1", strings.Repeat("x", 1000)), small)
	both(insert(before, "2", "x"), small)
	other := relation(1, "a", cdc.IdentityFull)
	other.Columns[1].Type = int8OID
	both(cdc.Event{Op: cdc.Insert, Relation: other, New: row("3", "3")}, small)
	if got, want := told(t, small), []string{"gap a undecodable"}; !slices.Equal(got, want) {
		t.Errorf("another type: got %q, want %q", got, want)
	}
}

// What cannot be true of a key is noticed although the two sides of it are in different runs.
func TestContradictionsOnDiskAreGaps(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	big := strings.Repeat("x", 2000)
	for name, events := range map[string][]cdc.Event{
		"insert twice":             {insert(a, "1", big), insert(a, "1", big)},
		"delete twice":             {remove(a, "1", big), remove(a, "1", big)},
		"update of what went":      {remove(a, "1", big), {Op: cdc.Update, Relation: a, Old: row("1", big), New: row("1", "y")}},
		"another image":            {insert(a, "1", big), remove(a, "1", "y")},
		"delete after a truncate":  {{Op: cdc.Truncate, Relation: a}, insert(a, "2", big), remove(a, "1", big)},
		"insert, delete, of a row": {{Op: cdc.Update, Relation: a, Old: row("1", "y"), New: row("1", big)}, insert(a, "1", big), remove(a, "1", big)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			small, memory := spiller(t, Config{})
			for _, ev := range events {
				both(ev, small, memory)
			}
			want := []string{"gap a undecodable"}
			if got := told(t, memory); !slices.Equal(got, want) {
				t.Errorf("in memory: got %q", got)
			}
			if small.disk.byKey == nil {
				t.Fatal("nothing was spilled")
			}
			if got := told(t, small); !slices.Equal(got, want) {
				t.Errorf("on disk: got %q", got)
			}
		})
	}
}

// Events of tables whose key is unknown pass in their order, and a truncate voids what is on disk.
func TestPassingEventsAndTruncatesOnDisk(t *testing.T) {
	t.Parallel()
	small, memory := spiller(t, Config{Key: func(r *cdc.Relation) []int {
		if r.OID == 1 {
			return []int{0}
		}
		return nil
	}})
	a, b := relation(1, "a", cdc.IdentityFull), relation(2, "b", cdc.IdentityFull)
	for i := range 30 {
		both(insert(b, "1", strconv.Itoa(i)), small, memory)
		both(insert(a, strconv.Itoa(i), "x"), small, memory)
		if i == 15 {
			both(cdc.Event{Op: cdc.Truncate, Relation: a}, small, memory)
		}
	}
	if diff := cmp.Diff(told(t, memory), told(t, small)); diff != "" {
		t.Error(diff)
	}
}

// Runs that hold large records are merged a few at a time.
func TestManyRunsOfLargeRecordsBecomeFewer(t *testing.T) {
	t.Parallel()
	small, memory := spiller(t, Config{MaxBytes: 20 << 10})
	a := relation(1, "a", cdc.IdentityFull)
	value := strings.Repeat("x", 7<<10)
	for i := range 40 {
		both(insert(a, strconv.Itoa(i%20), value+strconv.Itoa(i)), small, memory)
		both(remove(a, strconv.Itoa(i%20), value+strconv.Itoa(i)), small, memory)
		both(insert(a, strconv.Itoa(100+i), value), small, memory)
	}
	if runs, fan := len(small.disk.byKey.runs)-1, small.disk.byKey.fan(20<<10); runs <= fan {
		t.Fatalf("%d runs, of which %d can be merged at once", runs, fan)
	}
	if diff := cmp.Diff(told(t, memory), told(t, small)); diff != "" {
		t.Error(diff)
	}
}

// Over the quota a transaction is given up for Gaps, and the next one finds the disk free.
//
// Covers C66.
func TestOverTheQuotaThereIsAGap(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	fill := func(f *Folder) {
		for i := range 100 {
			f.Add(insert(a, strconv.Itoa(i), "some text"))
		}
	}
	small, _ := spiller(t, Config{SpillBytes: 1 << 20})
	fill(small)
	small.spill()
	size := small.disk.size()
	if size == 0 || small.over {
		t.Fatalf("%d bytes on disk", size)
	}
	for name, quota := range map[string]int64{"the keys": size - 1, "the times": size + size/2} {
		f, _ := spiller(t, Config{SpillBytes: quota})
		for range 2 {
			f.Begin()
			fill(f)
			if f.spill(); f.disk.size() > quota {
				t.Errorf("quota for less than %s: %d bytes are on disk, the quota is %d", name, f.disk.size(), quota)
			}
			if got := told(t, f); !slices.Equal(got, []string{"gap a transaction_size"}) {
				t.Errorf("quota for less than %s: got %q", name, got)
			}
		}
		f.Begin()
		f.Add(insert(a, "1", "x"))
		if got := told(t, f); !slices.Equal(got, []string{"insert a nil>1,x"}) {
			t.Errorf("the next transaction: got %q", got)
		}
	}
}

// A disk that is full, or that gives back something else than was written, is an error of the
// transaction, which comes again: it is never an event that is not true, nor a Gap.
//
// Covers C118.
func TestAFailingDiskIsAnError(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	add := func(f *Folder, n int) {
		for i := range n {
			f.Add(insert(a, strconv.Itoa(i), strings.Repeat("x", 100)))
		}
	}
	emitted := func(f *Folder) error {
		return f.Finish(t.Context(), testTransaction, func(*cdc.Batch) error {
			t.Error("something was emitted")
			return nil
		})
	}
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		f, _ := spiller(t, Config{})
		add(f, 20)
		full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.disk.byKey.file.Close()
		f.disk.byKey.file = full
		f.disk.byKey.w.Reset(full)
		add(f, 2000)
		if err := f.Err(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Err gives %v", err)
		}
		if err := emitted(f); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "--spill-dir") {
			t.Errorf("Finish gives %v", err)
		}
		add(f, 20)
		if got := told(t, f); len(got) != 20 {
			t.Errorf("the next transaction has %d events", len(got))
		}
	})
	for name, at := range map[string]int64{"corrupt record": 40, "corrupt length": 0, "corrupt check": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _ := spiller(t, Config{})
			add(f, 20)
			if err := f.disk.byKey.w.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := f.disk.byKey.file.WriteAt([]byte{0xff}, at); err != nil {
				t.Fatal(err)
			}
			if err := emitted(f); !errors.Is(err, errCorrupt) {
				t.Errorf("Finish gives %v", err)
			}
		})
	}
	t.Run("cut short", func(t *testing.T) {
		t.Parallel()
		f, _ := spiller(t, Config{})
		add(f, 20)
		if err := f.disk.byKey.w.Flush(); err != nil {
			t.Fatal(err)
		}
		f.spill()
		if err := f.disk.byKey.w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := f.disk.byKey.file.Truncate(f.disk.byKey.end - 10); err != nil {
			t.Fatal(err)
		}
		if err := emitted(f); !errors.Is(err, errCorrupt) {
			t.Errorf("Finish gives %v", err)
		}
	})
}

// Nothing of a transaction is left in the folder while it is folded nor afterwards, what an
// earlier process left there is removed, and who else uses the machine cannot read it.
//
// Covers C118.
func TestFilesHaveNoName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left := filepath.Join(dir, "rowtide-spill-123")
	for _, name := range []string{left, filepath.Join(dir, "something else")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := newFolder(t, Config{MaxBytes: 100, SpillDir: dir})
	a := relation(1, "a", cdc.IdentityFull)
	for i := range 50 {
		f.Add(insert(a, strconv.Itoa(i), "x"))
	}
	info, err := f.disk.byKey.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %s", info.Mode())
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || !slices.Equal(names, []string{filepath.Join(dir, "something else")}) {
		t.Errorf("the folder has %q, %v", names, err)
	}
	file := f.disk.byKey.file
	f.Close()
	if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is still open: %v", err)
	}
}

func TestAFolderThatCannotBeWrittenToIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{Key: byID, SpillDir: filepath.Join(t.TempDir(), "missing")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Finish ends soon when its context does, however much there is to merge.
func TestFinishOfASpilledTransactionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f, _ := spiller(t, Config{})
	a := relation(1, "a", cdc.IdentityFull)
	for i := range 100 {
		f.Add(insert(a, strconv.Itoa(i), "x"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := f.Finish(ctx, testTransaction, func(*cdc.Batch) error { return errors.New("something was emitted") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// FuzzRecord reads anything: it never panics, and takes nothing that was not written.
func FuzzRecord(f *testing.F) {
	r := record{table: 1, epoch: 2, version: 3, key: []byte("key"), entry: entry{existed: true, old: row("1", "-", "~"), new: row("1", "?", "x"), last: 9}}
	f.Add(r.append(nil)[recordHeader:])
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, body []byte) {
		g := fields{text: string(body)}
		_ = g.record(nil)
	})
}
