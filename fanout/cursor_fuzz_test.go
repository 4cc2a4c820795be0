package fanout_test

import (
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
)

// FuzzCursor: whatever a client sends is a cursor that this codec wrote, or none.
func FuzzCursor(f *testing.F) {
	codec, err := fanout.NewCursorCodec(fanout.CursorConfig{Secret: []byte("0123456789abcdef"), System: 1, Timeline: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(codec.Encode(cdc.Position{Commit: 1 << 40, Seq: 7}))
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		pos, err := codec.Decode(s)
		if err == nil && codec.Encode(pos) != s {
			t.Errorf("%q is read as %v, whose cursor is %q", s, pos, codec.Encode(pos))
		}
	})
}
