package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
)

// notesSchema has one table whose rows are seen by their owner.
const notesSchema = `
CREATE TABLE notes (id bigint PRIMARY KEY, owner text NOT NULL, title text NOT NULL, body text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes FOR SELECT TO %s
  USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
GRANT SELECT ON notes TO %s;
COMMENT ON TABLE notes IS '@subscribe';`

// writeNotes commits notes, 100 a transaction.
func (b *bed) writeNotes(ctx context.Context, first, count int) error {
	return b.exec(ctx, fmt.Sprintf(`DO $$ BEGIN FOR i IN 0..%d BY 100 LOOP
		INSERT INTO notes SELECT n, 'me', 'note ' || n, repeat('word ', 16) FROM generate_series(%d + i, least(%d + i + 99, %d)) n; COMMIT;
	END LOOP; END $$`, count-1, first, first, first+count-1))
}

func (b *bed) notes(ctx context.Context, arguments string) (*client.Client, error) {
	token, err := rowtide.Token(rowtide.Config{JWTSecret: benchSecret}, role, json.RawMessage(`{"sub":"me"}`), time.Hour)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, "ws://"+b.address()+"/graphql", token)
	if err != nil {
		return nil, err
	}
	if arguments != "" {
		arguments = "(" + arguments + ")"
	}
	return c, c.Subscribe(ctx, "1", "subscription { notes"+arguments+" { kind row { id title body } cursor } }", nil)
}

// catchUp has clients of the load process catch up at once, each with so many frames that are rows
// at least, and gives how long that took until the last was live.
func (b *bed) catchUp(clients int, arguments string, rows int) (time.Duration, error) {
	start := time.Now()
	_, err := b.load.do(order{
		Do: doOpen, Address: b.address(), Sockets: clients, PerSocket: 1, Subject: "me", Rows: rows,
		Query: "subscription { notes(" + arguments + ") { kind row { id title body } } }",
	})
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	return took, b.hangUp()
}
