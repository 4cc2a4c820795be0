package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

// A Loss says that the stream cannot go on from where it was left, and from where it will.
type Loss struct {
	// Reason is SlotLost, Gap, Undecodable where the slot was moved past a transaction that the
	// server could not decode, or Unpublished where the publication was missing for a while.
	Reason Reason
	// Err says what happened, in one line.
	Err error
	// At is where the stream goes on. What commits before it and was not handed on is lost.
	At cdc.LSN
	// Rewritten tells that the server's history is not the one that was streamed: positions
	// from before mean nothing in it, and transactions that were handed on may never have been.
	Rewritten bool
	// Server is the one that goes on.
	Server Server
}

// resume finds the slot and makes sure that the stream can go on from it where it was left, or
// tells OnLoss that it cannot.
func (c *Consumer) resume(ctx context.Context, conn *pgconn.PgConn, srv *server) (*slot, error) {
	var s *slot
	err := c.checkHistory(srv)
	rewritten := err != nil
	if err == nil {
		s, err = c.ensureSlot(ctx, conn, srv)
	}
	if err == nil {
		err = c.checkGap(s)
	}
	if err == nil && c.unpublished {
		err = &Error{Reason: Unpublished, What: fmt.Sprintf("the publications %q were not all there for a while: changes behind %s are lost", c.cfg.Publications, c.expected())}
	}
	if err != nil {
		return c.recover(ctx, conn, srv, Loss{Reason: reasonOf(err), Err: err, Rewritten: rewritten, Server: srv.identity()})
	}
	if c.cfg.OnServer != nil {
		if err := c.cfg.OnServer(ctx, srv.identity()); err != nil {
			return nil, err
		}
	}
	c.systemID, c.timeline = srv.systemID, srv.timeline
	return s, nil
}

// recover goes on behind a loss. The slot comes first: whoever is told of the loss reads
// everything anew, and must miss nothing that commits from then on.
func (c *Consumer) recover(ctx context.Context, conn *pgconn.PgConn, srv *server, l Loss) (*slot, error) {
	switch l.Reason {
	case SlotLost, Gap, Undecodable, Unpublished:
	default:
		return nil, l.Err
	}
	if c.cfg.OnLoss == nil {
		return nil, l.Err
	}
	var e *Error
	if errors.As(l.Err, &e) {
		l.Err = &Error{Reason: e.Reason, What: e.What, Fix: "the stream begins anew and every subscriber is told to resync"}
	}
	c.setErr(l.Err)
	c.log.Error("changes are lost", "error", l.Err)
	s, err := c.renewSlot(ctx, conn, srv, l.Reason == Unpublished)
	if err != nil {
		return nil, err
	}
	l.At = s.confirmed
	if err := c.cfg.OnLoss(ctx, l); err != nil {
		if s.created { // else the next attempt could take it for one that has been there
			c.dropSlot(ctx, conn)
		}
		return nil, err
	}
	c.cfg.Progress.restart(s.confirmed)
	c.cfg.MustResumeFrom, c.undecodable, c.unpublished = 0, false, false
	c.systemID, c.timeline = srv.systemID, srv.timeline
	return s, nil
}

// renewSlot gives the slot where it can be streamed from, and else makes it. It drops one that
// the server has invalidated, or that would have to pass a place where there was no publication:
// nothing can be read from it any more (since 18: not without leaving out all that it should have).
func (c *Consumer) renewSlot(ctx context.Context, conn *pgconn.PgConn, srv *server, spoiled bool) (*slot, error) {
	if err := c.checkPublications(ctx, conn); err != nil {
		return nil, err
	}
	s, err := c.findSlot(ctx, conn)
	if reasonOf(err) == SlotLost || err == nil && s != nil && spoiled {
		s, err = nil, pglogrepl.DropReplicationSlot(ctx, conn, quoted(c.cfg.Slot), pglogrepl.DropReplicationSlotOptions{})
	}
	if err != nil || s != nil {
		return s, err
	}
	return c.createSlot(ctx, conn, srv)
}
