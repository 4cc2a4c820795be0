package feedtest

import (
	"fmt"

	"github.com/jackc/pglogrepl"
)

// A Validator judges the frames of one subscription, noted in the order in which they arrived,
// also over reconnects of one client that resumes by cursor.
type Validator interface {
	// Note takes the next frame.
	Note(f *Frame)
	// Failures says, once every frame is noted, where the guarantee was broken: nothing if it
	// was not. Each begins with a word for what is wrong.
	Failures() []string
}

// maxFailures bounds what a Validator says: a stream that is wrong is wrong a thousand times.
const maxFailures = 20

type failures struct {
	list []string
	more int
}

func (f *failures) add(format string, args ...any) {
	if len(f.list) >= maxFailures {
		f.more++
		return
	}
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

func (f *failures) all() []string {
	if f.more == 0 {
		return f.list
	}
	return append(f.list[:len(f.list):len(f.list)], fmt.Sprintf("… and %d more", f.more))
}

// A Part is what a client received since it was told to begin anew, which a client without a snapshot
// cannot make up for: what committed between is missing.
type Part struct {
	Frames []*Frame
	// Live is a position behind which it should have everything; 0 where none is known, then
	// everything behind its first frame.
	Live pglogrepl.LSN
}

// beginner is a Validator that minds whether a client begins anew.
type beginner interface{ begin(live pglogrepl.LSN) }

// Judge holds the frames of a subscription against what it should have received, by every
// Validator there is, and gives their failures.
func Judge(want *Stream, frames []*Frame) []string {
	return JudgeParts(want, []Part{{Frames: frames}})
}

// JudgeParts is Judge for a client that was told to begin anew, after each part but the last.
func JudgeParts(want *Stream, parts []Part) []string {
	validators := []Validator{
		NewShapeValidator(want.Subscription.Table),
		NewOrderValidator(),
		NewCompletenessValidator(want),
		NewVisibilityValidator(want),
	}
	var out []string
	for _, v := range validators {
		for i, p := range parts {
			if b, ok := v.(beginner); ok && i > 0 {
				b.begin(p.Live)
			}
			for _, f := range p.Frames {
				v.Note(f)
			}
		}
		out = append(out, v.Failures()...)
	}
	return out
}
