package bustest

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
)

var relation = &cdc.Relation{OID: 16384, Schema: "public", Name: "t", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "id", Type: 23, Modifier: -1, Identity: true}}}

// transaction makes the batches of a transaction with the given numbers of events in them.
func transaction(commit cdc.LSN, sizes ...int) []*cdc.Batch {
	tx := cdc.Transaction{XID: uint32(commit), Commit: commit, End: commit + 8} //nolint:gosec // small in tests
	var out []*cdc.Batch
	seq := uint32(0)
	for i, n := range sizes {
		b := &cdc.Batch{Transaction: tx, Last: i == len(sizes)-1}
		if i == 0 {
			b.Messages = []cdc.Message{{Prefix: "rowtide", Content: []byte(commit.String())}}
		}
		for range n {
			b.Events = append(b.Events, cdc.Event{Op: cdc.Insert, Seq: seq, Relation: relation, New: cdc.Row{cdc.TextValue(fmt.Sprint(commit, seq))}})
			seq++
		}
		out = append(out, b)
	}
	return out
}

// heavy is a transaction of one event of the given size.
func heavy(commit cdc.LSN, size int) *cdc.Batch {
	b := transaction(commit, 1)[0]
	b.Events[0].New = cdc.Row{cdc.TextValue(strings.Repeat("x", size))}
	return b
}

// drawLog draws some transactions, divided into batches.
func drawLog(t *rapid.T) []*cdc.Batch {
	var out []*cdc.Batch
	commit := cdc.LSN(rapid.Uint64Range(1, 100).Draw(t, "start"))
	if rapid.Bool().Draw(t, "high") { // beyond what fits a signed number (C17)
		commit += 0xFFFFFFFF_00000000
	}
	for range rapid.IntRange(1, 8).Draw(t, "transactions") {
		commit += cdc.LSN(rapid.Uint64Range(1, 50).Draw(t, "distance"))
		sizes := rapid.SliceOfN(rapid.IntRange(1, 4), 0, 4).Draw(t, "batches")
		sizes = append(sizes, rapid.IntRange(0, 4).Draw(t, "last batch"))
		out = append(out, transaction(commit, sizes...)...)
	}
	return out
}

// rebatch divides the same transactions into other batches.
func rebatch(t *rapid.T, log []*cdc.Batch) []*cdc.Batch {
	var out []*cdc.Batch
	for len(log) > 0 {
		whole := *log[0]
		for log = log[1:]; !whole.Last; log = log[1:] {
			whole.Events = append(whole.Events[:len(whole.Events):len(whole.Events)], log[0].Events...)
			whole.Last = log[0].Last
		}
		for !whole.Last || whole.Events != nil || whole.Messages != nil {
			part := whole
			n := rapid.IntRange(0, len(whole.Events)).Draw(t, "cut")
			if n == 0 || n == len(whole.Events) {
				out = append(out, &part)
				break
			}
			part.Events, part.Last = whole.Events[:n], false
			whole.Events, whole.Messages = whole.Events[n:], nil
			out = append(out, &part)
		}
	}
	return out
}

// flatten lists what batches say, in a form that does not depend on how they are divided.
func flatten(batches []*cdc.Batch) []string {
	var out []string
	for _, b := range batches {
		for _, m := range b.Messages {
			out = append(out, fmt.Sprintf("%s message %s", b.Commit, m.Content))
		}
		for _, e := range b.Events {
			out = append(out, fmt.Sprintf("%s:%d %s", b.Commit, e.Seq, e.New[0].Text()))
		}
		if b.Last {
			out = append(out, b.Commit.String()+" last")
		}
	}
	return out
}

// behind is the model: what flatten gives of everything behind a position.
func behind(log []*cdc.Batch, p cdc.Position) []string {
	var out []string
	for _, b := range log {
		switch {
		case b.Commit < p.Commit:
		case b.Commit > p.Commit:
			out = append(out, flatten([]*cdc.Batch{b})...)
		default:
			for _, e := range b.Events {
				if e.Seq > p.Seq {
					out = append(out, fmt.Sprintf("%s:%d %s", b.Commit, e.Seq, e.New[0].Text()))
				}
			}
			if b.Last && p.Seq != cdc.EndOfTransaction {
				out = append(out, b.Commit.String()+" last")
			}
		}
	}
	return out
}

// positions are all positions of a log: of each event and of each end.
func positions(log []*cdc.Batch) []cdc.Position {
	var out []cdc.Position
	for _, b := range log {
		for _, e := range b.Events {
			out = append(out, cdc.Position{Commit: b.Commit, Seq: e.Seq})
		}
		if b.Last {
			out = append(out, b.Position())
		}
	}
	return out
}
