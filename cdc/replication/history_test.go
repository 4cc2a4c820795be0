package replication

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide/cdc"
)

// A server that has not gone through where the stream was left is refused, also where its slot looks
// right: whatever it writes up to there would be skipped without a word.
//
// Covers C33, C34, C35, C36.
func TestServerOfAnotherHistoryIsAGap(t *testing.T) {
	t.Parallel()
	const at = 0x5000
	forks := func(at cdc.LSN) map[uint32]cdc.LSN { return map[uint32]cdc.LSN{1: 0x10, 2: at} }
	for name, tt := range map[string]struct {
		srv server
		say string // "" where it may go on
	}{
		"the same":                    {server{systemID: 7, timeline: 2, end: at}, ""},
		"promoted where it was left":  {server{systemID: 7, timeline: 3, end: at + 1, forks: forks(at)}, ""},
		"promoted behind":             {server{systemID: 7, timeline: 3, end: at + 1, forks: forks(at + 1)}, ""},
		"promoted before":             {server{systemID: 7, timeline: 3, end: at + 1, forks: forks(at - 1)}, "was promoted at 0/4FFF, before 0/5000"},
		"promoted, of no known fork":  {server{systemID: 7, timeline: 3, end: at + 1}, "timeline 3 does not come from 2"},
		"an earlier timeline":         {server{systemID: 7, timeline: 1, end: at + 1}, "timeline 1 does not come from 2"},
		"another cluster":             {server{systemID: 8, timeline: 2, end: at + 1}, "another cluster (8)"},
		"the files of an earlier day": {server{systemID: 7, timeline: 2, end: at - 1}, "WAL ends at 0/4FFF, before 0/5000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &Consumer{cfg: Config{MustResumeFrom: at, Progress: NewProgress()}, systemID: 7, timeline: 2}
			err := c.checkHistory(&tt.srv)
			switch {
			case tt.say == "" && err != nil:
				t.Error(err)
			case tt.say != "" && (reasonOf(err) != Gap || !strings.Contains(err.Error(), tt.say)):
				t.Errorf("got %v, want a gap that says %q", err, tt.say)
			}
		})
	}
}
