package fanout

import (
	"context"
	"log/slog"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// Subscribe runs a request in a session of its own, which ends with the subscription.
func (d *Dispatcher) Subscribe(ctx context.Context, p *authz.Principal, req schema.Request) (Response, error) {
	s := d.Open(p)
	s.single = true
	r, err := s.Subscribe(ctx, req)
	if err != nil || r.Subscription == nil {
		s.Close()
	}
	return r, err
}

// subscribe runs a request. Where after is not "" it stands for the operation's own. The
// subscription has the Waker, or where that is nil is read by Next.
func (d *Dispatcher) subscribe(ctx context.Context, session *Session, req schema.Request, after string, w Waker) (Response, error) {
	for {
		c := d.registry.present()
		v, req, err := d.compiler.compile(c, session.Principal(), req)
		if err != nil {
			d.denied(session, req, err)
			return Response{}, err
		}
		if err := session.client.Operate(); err != nil {
			d.denied(session, req, err)
			return Response{}, err
		}
		if v.op.Result != nil {
			return Response{Result: v.op.Result}, session.check()
		}
		select {
		case <-d.armed:
		case <-ctx.Done():
			return Response{}, context.Cause(ctx)
		}
		s := newSubscription(d, session, req, v, w)
		added, err := d.register(s, c)
		if err != nil {
			d.denied(session, req, err)
			return Response{}, err
		}
		if !added {
			continue // the catalog has changed since
		}
		d.subscribed(s)
		if err := d.start(s, after); err != nil {
			s.Close()
			return Response{}, err
		}
		return Response{Subscription: s}, nil
	}
}

// register makes a subscription known to its session and the dispatcher.
func (d *Dispatcher) register(s *Subscription, c *schema.Catalog) (bool, error) {
	oid := s.view.op.Table.Def.OID
	if err := s.session.add(s); err != nil {
		return false, err
	}
	added, err := d.registry.add(s, oid, c)
	if !added {
		s.session.remove(s)
	}
	return added, err
}

// start sends a registered subscription on its way to be live: at once, or by a snapshot, or by
// a replay from its cursor.
func (d *Dispatcher) start(s *Subscription, after string) error {
	op := s.present().op
	if after == "" {
		after = op.After
	}
	p := plan{snapshot: op.Snapshot}
	if after != "" {
		pos, err := d.cfg.Cursors.Decode(after)
		switch {
		case err == nil:
			if err := s.session.client.Afford(authz.Replayed); err != nil {
				d.denied(s.session, s.request, err)
				return err
			}
			p = plan{after: pos}
		case op.Snapshot:
			d.record(s, authz.EventCursor, "not_valid")
			p.reason = reasonRetention // the same answer as to a cursor that is too old
		default:
			d.record(s, authz.EventCursor, "not_valid")
			return resyncRequired(reasonRetention)
		}
	}
	s.mu.Lock()
	s.catching = true
	s.mu.Unlock()
	d.enqueue(s, p)
	return nil
}

// resync has a subscription begin anew, because what it was sent may no longer be what it sees:
// with a snapshot where it asked for one, and otherwise it ends. One that has overspent its budget
// ends too.
func (d *Dispatcher) resync(s *Subscription, reason string) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	v := s.view
	enqueue := false
	switch {
	case !v.op.Snapshot, reason == reasonOverspent:
		s.endLocked(resyncRequired(reason), flushed)
	case s.catching:
		s.detachLocked()
		s.restart = reason
		if s.cancel != nil {
			s.cancel()
		}
	default:
		s.detachLocked()
		s.catching, enqueue = true, true
	}
	s.mu.Unlock()
	d.log.Info("subscription resyncs", slog.String("reason", reason), slog.String("role", v.principal.Role),
		slog.String("table", v.op.Table.Def.Schema+"."+v.op.Table.Def.Name), slog.Bool("heals", v.op.Snapshot))
	if enqueue {
		d.enqueue(s, plan{snapshot: true, reason: reason})
	}
}
