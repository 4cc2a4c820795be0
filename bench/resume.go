package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Resume measures how fast a client gets the changes behind an old cursor, and many at once; and
// how late the changes of a subscriber who is live come meanwhile.
type Resume struct {
	Rounds  int `help:"How often each part is measured." default:"3"`
	Changes int `help:"Changes behind the cursor, 100 a transaction." default:"100000"`
	Clients int `help:"Clients that resume at once in the last part, behind a tenth as many." default:"200"`
}

func (*Resume) needs() bedConfig { return bedConfig{schema: notesSchema, clients: true} }

func (s *Resume) measure(ctx context.Context, b *bed) (*Result, error) {
	old, err := b.cursor(ctx)
	if err != nil {
		return nil, err
	}
	many := s.Changes / 10
	if err := b.writeNotes(ctx, 1, s.Changes-many); err != nil {
		return nil, err
	}
	newer, err := b.cursor(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.writeNotes(ctx, s.Changes-many+1, many); err != nil {
		return nil, err
	}
	if _, err := b.cursor(ctx); err != nil { // all of it is dispatched
		return nil, err
	}
	one, each := fmt.Sprintf("one client behind %d changes", s.Changes), fmt.Sprintf("%d clients behind %d changes", s.Clients, many)
	r := newResult("resume", b.version, s.Rounds, "changes/s", "live p99 ms")
	_, err = b.measured("resume", func() error {
		next := s.Changes + 1
		for range s.Rounds {
			took, err := b.catchUp(1, `after: "`+old+`"`, s.Changes)
			if err != nil {
				return err
			}
			r.sample(one, float64(s.Changes)/took.Seconds(), nan)
			calm, err := b.live(ctx, &next, func() error { return nil })
			if err != nil {
				return err
			}
			behind := many + next - s.Changes - 1
			busy, err := b.live(ctx, &next, func() error {
				took, err = b.catchUp(s.Clients, `after: "`+newer+`"`, behind)
				return err
			})
			if err != nil {
				return err
			}
			r.sample(each, float64(s.Clients*behind)/took.Seconds(), busy)
			r.sample("nobody", nan, calm)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.ratio("all clients together / one client", r.at(each, 0)/r.at(one, 0), "")
	return r, nil
}

// cursor is that of the present end of the stream.
func (b *bed) cursor(ctx context.Context) (string, error) {
	if err := b.exec(ctx, "INSERT INTO notes VALUES (0, 'me', 'last', ''); DELETE FROM notes WHERE id = 0"); err != nil {
		return "", err
	}
	c, err := b.notes(ctx, "")
	if err != nil {
		return "", err
	}
	defer c.CloseNow() //nolint:errcheck // it was read
	m, err := c.Next(ctx)
	if err != nil {
		return "", err
	}
	var f struct {
		Data struct{ Notes struct{ Cursor string } }
	}
	if err := json.Unmarshal(m.Payload, &f); err != nil || f.Data.Notes.Cursor == "" {
		return "", fmt.Errorf("want LIVE with a cursor, got %s %s", m.Type, m.Payload)
	}
	return f.Data.Notes.Cursor, nil
}

// liveChanges is of how many a live subscriber's latency is measured, at least.
const liveChanges = 100

// live measures, in milliseconds, how late the changes of a live subscriber come while something
// goes on: the 99th percentile.
func (b *bed) live(ctx context.Context, next *int, meanwhile func() error) (float64, error) {
	c, err := b.notes(ctx, "")
	if err != nil {
		return 0, err
	}
	defer c.CloseNow() //nolint:errcheck // it was read
	if _, err := c.Next(ctx); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- meanwhile() }()
	var late []float64
	for ended := false; !ended || len(late) < liveChanges; *next++ {
		start := time.Now()
		if err := b.exec(ctx, fmt.Sprintf("INSERT INTO notes VALUES (%d, 'me', 'live', '')", *next)); err != nil {
			return 0, err
		}
		if _, err := c.Next(ctx); err != nil {
			return 0, err
		}
		late = append(late, float64(time.Since(start).Microseconds())/1e3)
		select {
		case err := <-done:
			if ended = true; err != nil {
				return 0, err
			}
		default:
		}
	}
	slices.Sort(late)
	return late[len(late)*99/100], nil
}
