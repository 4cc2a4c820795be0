package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
)

// A walker is a client of a random history: it reads some frames, is cut off, and comes back
// with its last cursor.
type walker struct {
	*client
	user, arguments string
	// told are the changes that it was told of, in order, without LIVE.
	told   []string
	failed error
}

func (k *walker) connect(ctx context.Context, w *world, d *fanout.Dispatcher) {
	arguments := k.arguments
	if k.client != nil && k.last != "" {
		arguments += fmt.Sprintf(", after: %q", k.last)
	}
	r, err := d.Subscribe(ctx, principal(k.user, time.Time{}), request(strings.TrimPrefix(arguments, ", ")))
	if err != nil {
		w.t.Errorf("subscribe %s: %v", arguments, err)
		return
	}
	before := k.client
	k.client = newClient(w.t, r.Subscription)
	// On one connection nothing comes twice; who comes back may get again what the snapshot had.
	k.strict = before == nil && strings.Contains(k.arguments, "snapshot: true")
	if before != nil {
		k.rows, k.ids, k.last, k.wrong = before.rows, before.ids, before.last, before.wrong
	}
}

// step reads one frame, and reconnects where the client was too slow.
func (k *walker) step(ctx context.Context, w *world, d *fanout.Dispatcher) (message, bool) {
	m, err := k.read(ctx)
	switch {
	case err == nil:
		if m.Kind != "LIVE" {
			k.told = append(k.told, m.String())
		}
		return m, true
	case errors.Is(err, fanout.ErrSlow):
		k.sub.Close()
		k.connect(ctx, w, d)
		return message{}, true
	}
	k.failed = err
	return message{}, false
}

// finish reads up to the user's row that says the end.
func (k *walker) finish(w *world, d *fanout.Dispatcher) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		m, ok := k.step(ctx, w, d)
		if !ok {
			return
		}
		if m.Row != nil && m.Row["note"] == "end" {
			break
		}
	}
	k.sub.Close()
}

// endings are rows that no random write touches.
func endings() []write { return []write{put(901, "ann", "end"), put(902, "bob", "end")} }

// randomWrites draws a transaction over five rows.
func randomWrites(t *rapid.T) []write {
	var out []write
	for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(1, 5), 0, 5, rapid.ID).Draw(t, "rows") {
		if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			out = append(out, del(id))
			continue
		}
		out = append(out, put(id, rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "owner"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "note")))
	}
	return out
}

// run lives through a random history with the walkers that arguments gives.
func run(t *testing.T, rt *rapid.T, arguments []string) (*world, []*walker) {
	t.Helper()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"), put(2, "bob", "a")) // so that every cursor is of a position in the bus
	d := w.start(fanout.Config{Limits: fanout.Limits{
		QueueBytes: rapid.SampledFrom([]int{1500, 1 << 20}).Draw(rt, "queue"),
		HeldBytes:  rapid.SampledFrom([]int{1, 700, 1 << 20}).Draw(rt, "held"),
	}})
	var walkers []*walker
	for range rapid.IntRange(1, 25).Draw(rt, "actions") {
		switch rapid.IntRange(0, 4).Draw(rt, "action") {
		case 0:
			k := &walker{
				user:      rapid.SampledFrom([]string{"ann", "bob"}).Draw(rt, "user"),
				arguments: rapid.SampledFrom(arguments).Draw(rt, "arguments"),
			}
			k.connect(t.Context(), w, d)
			walkers = append(walkers, k)
			for k.arguments == "" && k.last == "" { // it needs a cursor to come back with
				if _, ok := k.step(t.Context(), w, d); !ok {
					rt.Fatalf("no LIVE: %v", k.failed)
				}
			}
		case 1:
			w.mu.Lock()
			w.setVisibleLocked(w.visible + rapid.IntRange(0, len(w.xids)-w.visible).Draw(rt, "visible"))
			w.mu.Unlock()
		case 2:
			if len(walkers) == 0 {
				continue
			}
			// The client reads LIVE at least, else it has nothing to come back with.
			k := rapid.SampledFrom(walkers).Draw(rt, "walker")
			w.commitAll()
			for range rapid.IntRange(1, 4).Draw(rt, "frames") {
				ctx, cancel := context.WithCancel(context.Background())
				if k.last != "" {
					cancel() // it takes what is there
				}
				_, err := k.read(ctx)
				cancel()
				if err != nil {
					break
				}
				if m := k.got[k.next-1]; m.Kind != "LIVE" {
					k.told = append(k.told, m.String())
				}
			}
			if k.last == "" {
				continue
			}
			for k.next < len(k.got) { // what was received was received
				if m := k.got[k.next]; m.Kind != "LIVE" {
					k.told = append(k.told, m.String())
				}
				k.next++
			}
			k.sub.Close()
			k.connect(t.Context(), w, d)
		default:
			w.publish(t.Context(), rapid.IntRange(1, 3).Draw(rt, "batch"), randomWrites(rt)...)
		}
	}
	w.commitAll()
	w.write(endings()...)
	for _, k := range walkers {
		k.finish(w, d)
	}
	w.stop()
	for _, k := range walkers {
		if k.failed != nil {
			rt.Fatalf("%s, told of %v: %v", k.user, k.told, k.failed)
		}
		if len(k.wrong) > 0 {
			rt.Fatalf("%s was told %v, which does not follow from what it was told before: %v", k.user, k.wrong, k.told)
		}
	}
	return w, walkers
}

// Covers C103, C104, C121, C19.
func TestSnapshotsAndChangesMeetWithoutGapOrOverlap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w, walkers := run(t, rt, []string{"snapshot: true"})
		for _, k := range walkers {
			if d := cmp.Diff(w.state(k.user), k.rows); d != "" {
				rt.Fatalf("%s ends with other rows than its SELECT (-select +client):\n%s\nit was told %s\nhistory %s", k.user, d, strings.Join(k.told, ", "), strings.Join(w.history(k.user), ", "))
			}
		}
	})
}

// Covers C19, C109, C115.
func TestEveryChangeIsToldOnceAcrossReconnects(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w, walkers := run(t, rt, []string{""})
		for _, k := range walkers {
			all := w.history(k.user)
			if n := len(all) - len(k.told); n < 0 || !slices.Equal(all[n:], k.told) {
				rt.Fatalf("%s was told\n\t%s\nwhich is no end of\n\t%s", k.user, strings.Join(k.told, ", "), strings.Join(all, ", "))
			}
		}
	})
}

// history is all that a user is to be told of, computed from the states between transactions.
func (w *world) history(user string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for i := 1; i < len(w.states); i++ {
		for _, id := range w.touched[i-1] {
			if s := tell(user, id, w.states[i-1][id], w.states[i][id]); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func tell(user string, id int, before, after cdc.Row) string {
	own := func(r cdc.Row) bool { return r != nil && r[1].Text() == user }
	note := func(r cdc.Row) string { return r[2].Text() }
	switch {
	case own(before) && own(after):
		if note(before) == note(after) {
			return ""
		}
		return fmt.Sprintf("UPDATE %d %s-> %s", id, note(before), note(after))
	case own(after) && before == nil:
		return fmt.Sprintf("INSERT %d %s", id, note(after))
	case own(after):
		return fmt.Sprintf("ENTER %d %s", id, note(after))
	case own(before) && after == nil:
		return fmt.Sprintf("DELETE %d %s->", id, note(before))
	case own(before):
		return fmt.Sprintf("LEAVE %d %s->", id, note(before))
	}
	return ""
}

// Covers R33.
func TestClientsWithWhereConvergeToTheirSelect(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w, walkers := run(t, rt, []string{`snapshot: true, where: {note: {in: ["a", "end"]}}`})
		for _, k := range walkers {
			want := maps.Clone(w.state(k.user))
			maps.DeleteFunc(want, func(_, note string) bool { return note != "a" && note != "end" })
			if d := cmp.Diff(want, k.rows); d != "" {
				rt.Fatalf("%s ends with other rows than its SELECT (-select +client):\n%s", k.user, d)
			}
		}
	})
}
