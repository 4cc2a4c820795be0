package feedtest

import (
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"
)

// A Stream is what a subscription should receive, in order.
type Stream struct {
	Subscription *Subscription
	Frames       []Expected
}

// Kinds counts the frames of streams by their kind.
func Kinds(streams []*Stream) map[string]int {
	out := make(map[string]int)
	for _, s := range streams {
		for i := range s.Frames {
			out[s.Frames[i].Kind]++
		}
	}
	return out
}

// An Expected is a frame that a subscription should receive.
type Expected struct {
	Commit pglogrepl.LSN
	XID    uint32
	Kind   string
	// Key is the key's text; "" of TRUNCATE.
	Key string
	// Row and Old are the images that the subscriber's SELECT returned after and before, nil
	// where it did not.
	Row, Old *Image
	// Last tells that no frame of the transaction follows in the Stream.
	Last bool
}

// An Image is a row of a table: a value for each of its columns. Of it, a subscriber sees the
// columns that its role may read.
type Image struct {
	Values []Value
}

func (e *Expected) String() string {
	return fmt.Sprintf("%s %s at %s", e.Kind, strings.ReplaceAll(e.Key, keySeparator, ","), e.Commit)
}

// differ are the API's names of readable columns that differ between two images.
func (s *Subscription) differ(a, b *Image) []string {
	var out []string
	for _, c := range s.readable() {
		if a.Values[c] != b.Values[c] {
			out = append(out, s.Table.Columns[c].Field)
		}
	}
	return out
}

// Frame is the frame that the API should send, but for what is opaque (rowId, cursor, the
// transaction's id): those are made up, by the rules for them.
func (s *Stream) Frame(i int) *Frame {
	e := &s.Frames[i]
	sub := s.Subscription
	f := &Frame{
		Kind:   e.Kind,
		Cursor: fmt.Sprintf("cursor %s %d", e.Commit, i),
		Row:    sub.object(e.Row),
		Old:    sub.object(e.Old),
		Transaction: &Transaction{
			ID: fmt.Sprintf("transaction %d", e.Commit), CommitTime: "2001-02-03T04:05:06Z",
			XID: Scalar(fmt.Sprint(e.XID)), CommitLSN: Scalar(e.Commit.String()), Last: e.Last,
		},
	}
	if e.Kind == Truncate {
		return f
	}
	f.RowID = sub.Table.Name + " " + e.Key
	f.Key = Object{}
	image := e.Row
	if image == nil {
		image = e.Old
	}
	for _, c := range sub.Table.keyColumns() {
		f.Key[sub.Table.Columns[c].Field] = encode(sub.Table.Columns[c].Type, image.Values[c])
	}
	if e.Kind == Update {
		f.Changed = sub.differ(e.Old, e.Row)
	}
	return f
}

// object is what the subscriber sees of an image.
func (s *Subscription) object(image *Image) Object {
	if image == nil {
		return nil
	}
	out := make(Object, len(s.Columns))
	for _, c := range s.readable() {
		out[s.Table.Columns[c].Field] = encode(s.Table.Columns[c].Type, image.Values[c])
	}
	return out
}

// Rows are the rows of a table, or of what a SELECT returned of it, by their key's text.
type Rows map[string]*Image
