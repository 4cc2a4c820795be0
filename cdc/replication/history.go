package replication

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

// A Server is which server is at the other end, and which history it has.
type Server struct {
	// System is the identifier of the cluster: a standby has its primary's, whatever was made
	// anew has another.
	System uint64
	// Timeline counts the promotions and restores in the server's history.
	Timeline uint32
	// Forks gives, for each earlier timeline of the history, where it was left.
	Forks map[uint32]cdc.LSN
}

func (s *server) identity() Server {
	return Server{System: s.systemID, Timeline: s.timeline, Forks: maps.Clone(s.forks)}
}

// readHistory reads where earlier timelines were left. The first one has no history, and a server
// whose file is gone knows none: then nothing is known to be shared with another timeline.
func (s *server) readHistory(ctx context.Context, conn *pgconn.PgConn) error {
	if s.timeline <= 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	h, err := pglogrepl.TimelineHistory(ctx, conn, int32(s.timeline)) //nolint:gosec // as pglogrepl has it
	if sqlState(err) == undefinedFile {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read history of timeline %d: %w", s.timeline, cause(err))
	}
	if s.forks, err = parseHistory(h.Content); err != nil {
		return fmt.Errorf("read history of timeline %d: %w", s.timeline, err)
	}
	return nil
}

// parseHistory reads a history file: in each line a timeline, where it was left, and why
// (readTimeLineHistory in src/backend/access/transam/timeline.c).
func parseHistory(content []byte) (map[uint32]cdc.LSN, error) {
	forks := make(map[uint32]cdc.LSN)
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 {
			return nil, fmt.Errorf("parse history line %q: want a timeline and an LSN", lines.Text())
		}
		timeline, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("parse history line %q: %w", lines.Text(), err)
		}
		if forks[uint32(timeline)], err = cdc.ParseLSN(f[1]); err != nil {
			return nil, fmt.Errorf("parse history line %q: %w", lines.Text(), err)
		}
	}
	return forks, lines.Err()
}

// checkHistory refuses a server that has not gone through where we are: another cluster, a
// standby that was promoted behind it, a backup from before it. Asked for what lies behind the end
// of its WAL, START_REPLICATION would skip whatever will be written up to there.
func (c *Consumer) checkHistory(srv *server) error {
	expected := c.expected()
	fork, known := srv.forks[c.timeline]
	switch {
	case c.systemID != 0 && c.systemID != srv.systemID:
		return gap("the server is another cluster (%d) than before (%d)", srv.systemID, c.systemID)
	case c.timeline != 0 && c.timeline != srv.timeline && !known:
		return gap("the server's timeline %d does not come from %d, which was followed", srv.timeline, c.timeline)
	case c.timeline != 0 && c.timeline != srv.timeline && expected > fork:
		return gap("the server was promoted at %s, before %s, which was reached on timeline %d", fork, expected, c.timeline)
	case expected > srv.end:
		return gap("the server's WAL ends at %s, before %s: it was restored or failed over", srv.end, expected)
	}
	return nil
}

// checkGap refuses a slot that has moved past where we are. START_REPLICATION would not: asked
// for what lies before the slot's position it begins at that without a word.
func (c *Consumer) checkGap(s *slot) error {
	expected := c.expected()
	if expected == 0 || s.confirmed <= expected {
		return nil
	}
	err := gap("replication slot %q has moved on to %s, past %s", c.cfg.Slot, s.confirmed, expected)
	if c.undecodable { // it was moved as the error said
		err.Reason = Undecodable
	}
	return err
}

func gap(format string, args ...any) *Error {
	return &Error{Reason: Gap, What: fmt.Sprintf(format, args...), Fix: "changes were lost: start anew without the position, and let every subscriber resync"}
}
