package fanout

import "github.com/rowtide/rowtide/cdc"

// concerned tells whether the subscription gets what a transaction has for it. It does not, where
// it starts behind it: whatever attaches does, once the transaction is the current one. So it is
// enough to ask when frames are delivered.
func (s *Subscription) concerned(tx *cdc.Transaction) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.concernedLocked(tx)
}

func (s *Subscription) concernedLocked(tx *cdc.Transaction) bool {
	return s.phase != detached && tx.Commit > s.start.Commit && !s.sawLocked(tx.XID, tx.Commit)
}

// farPast is how many transaction ids behind a snapshot's end nothing can follow in the stream
// that the snapshot saw: more than sessions and subtransactions had in use when it was taken, and
// far from the 2^31 at which ids come round.
const farPast = 1 << 24

// sawLocked tells whether the snapshot that the subscription started from has all effects of a
// transaction already.
func (s *Subscription) sawLocked(xid uint32, commit cdc.LSN) bool {
	every, _ := s.sightLocked(xid, commit)
	return every
}

// sightLocked is what the snapshot's portions have seen of a transaction: all of them, or any.
func (s *Subscription) sightLocked(xid uint32, commit cdc.LSN) (every, some bool) {
	if s.seen == nil || xid == 0 {
		return false, false
	}
	if s.phase == live && s.seen.past(xid, commit) { // else older frames may be held, or be replayed
		s.seen = nil
		return false, false
	}
	return s.seen.saw(xid, commit)
}

// sawFrameLocked tells whether the snapshot has all of a frame's transaction, and whether it has
// what the frame says: of one without an image, whether any portion has.
func (s *Subscription) sawFrameLocked(f *frame) (every, this bool) {
	every, some := s.sightLocked(f.xid, f.pos.Commit)
	if !every && some && f.image != nil {
		return false, s.seen.sawFrame(f)
	}
	return every, some
}

// unseenLocked gives the frames of a transaction that the snapshot does not have, and the same as
// a run. The reason is why that cannot be told: the snapshot was being read while the table was
// emptied.
func (s *Subscription) unseenLocked(tx *cdc.Transaction, frames []frame, r run) ([]frame, run, string) {
	if _, some := s.sightLocked(tx.XID, tx.Commit); !some {
		return frames, r, ""
	}
	var out []frame
	for i := range frames {
		_, this := s.sawFrameLocked(&frames[i])
		if this && frames[i].image == nil {
			return nil, run{}, reasonTruncated
		}
		if !this {
			out = append(out, frames[i])
		}
	}
	return out, newRun(out), ""
}

// deliver takes frames of a transaction from the dispatcher, and the same as a run: it never waits.
func (s *Subscription) deliver(tx *cdc.Transaction, frames []frame, r run) {
	if reason := s.accept(tx, frames, r); reason != "" {
		s.d.resync(s, reason)
	}
}

// accept is deliver; it gives the reason where the subscription has to begin anew.
func (s *Subscription) accept(tx *cdc.Transaction, frames []frame, r run) (reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.concernedLocked(tx) {
		return ""
	}
	switch s.phase {
	case holding: // the snapshot may not be read to its end
		s.holdLocked(frames)
	case live:
		if frames, r, reason = s.unseenLocked(tx, frames, r); len(frames) == 0 {
			return reason
		}
		if !s.enqueueLocked(r) {
			s.endLocked(ErrSlow, atOnce)
			return ""
		}
		s.told = frames[len(frames)-1].pos
		s.wake()
	case detached:
	}
	return ""
}

// holdLocked keeps frames until the catching up is done. Where they are too many it gives up
// and detaches: they are read again from the bus.
func (s *Subscription) holdLocked(frames []frame) {
	n := 0
	for _, f := range frames {
		n += len(f.payload)
	}
	s.heldBytes += n
	s.d.tally.held.Add(int64(n))
	if s.heldBytes > s.d.cfg.Limits.HeldBytes {
		s.detachLocked()
		return
	}
	s.held = append(s.held, frames...)
}

// releaseLocked lets go of what is held.
func (s *Subscription) releaseLocked() {
	s.d.tally.held.Add(-int64(s.heldBytes))
	s.held, s.heldBytes = nil, 0
}
