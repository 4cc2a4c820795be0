package fanout

import "fmt"

func (s *Subscription) Dump() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("phase %d gen %d start %v told %v held %d catching %v restart %q err %v queue %d registry %v after %q session used %d", s.phase, s.gen, s.start, s.told, len(s.held), s.catching, s.restart, s.err, len(s.queue), s.d.registry.current, s.view.op.After, s.session.used)
}
