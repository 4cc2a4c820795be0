package bench

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// Snapshot measures how fast the rows of a table come to a client, against COPY … TO STDOUT of the
// same SELECT under the same role; and to many clients that start together.
type Snapshot struct {
	Rounds   int `help:"How often each side reads." default:"5"`
	Rows     int `help:"Rows of the table." default:"100000"`
	Together int `help:"Clients that start at once in the last part." default:"20"`
}

func (*Snapshot) needs() bedConfig { return bedConfig{schema: notesSchema, clients: true} }

func (s *Snapshot) measure(ctx context.Context, b *bed) (*Result, error) {
	if err := b.writeNotes(ctx, 1, s.Rows); err != nil {
		return nil, err
	}
	if err := b.exec(ctx, "VACUUM ANALYZE notes"); err != nil {
		return nil, err
	}
	const copied, alone = "COPY … TO STDOUT", "one client"
	together := fmt.Sprintf("%d clients together", s.Together)
	r := newResult("snapshot", b.version, s.Rounds, "rows/s")
	_, err := b.measured("snapshot", func() error {
		for range s.Rounds {
			took, err := b.copyNotes(ctx)
			if err != nil {
				return err
			}
			r.sample(copied, float64(s.Rows)/took.Seconds())
			if took, err = b.catchUp(1, "snapshot: true", s.Rows); err != nil {
				return err
			}
			r.sample(alone, float64(s.Rows)/took.Seconds())
			if took, err = b.catchUp(s.Together, "snapshot: true", s.Rows); err != nil {
				return err
			}
			r.sample(together, float64(s.Together*s.Rows)/took.Seconds())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.ratio("one client / COPY", r.at(alone, 0)/r.at(copied, 0), "")
	r.ratio("all clients together / one client", r.at(together, 0)/r.at(alone, 0), "")
	return r, nil
}

// copyNotes reads the rows as the clients' role.
func (b *bed) copyNotes(ctx context.Context) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SET ROLE "+role+`; SET request.jwt.claims = '{"sub": "me"}'`); err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = conn.PgConn().CopyTo(ctx, io.Discard, "COPY (SELECT id, title, body FROM notes) TO STDOUT")
	return time.Since(start), err
}
