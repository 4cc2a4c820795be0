package fanout

import (
	"errors"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// audit records what a client did, or what was done to it.
func (d *Dispatcher) audit(r authz.Record, c *authz.Client, p *authz.Principal) {
	if d.cfg.Audit == nil {
		return
	}
	if c != nil {
		r.Address, r.Transport = c.Address, c.Transport
	}
	if p != nil {
		r.Role, r.Subject = p.Role, p.Subject
	}
	d.cfg.Audit.Record(r)
}

// record records what became of a subscription. It may be called with its mu held: it reads only
// what does not change.
func (d *Dispatcher) record(s *Subscription, event authz.Event, reason string) {
	d.audit(authz.Record{Event: event, Reason: reason, Table: s.about.Table, Operation: s.about.Operation}, s.session.client, s.about.principal)
}

// An about is what the audit log tells of a subscription.
type about struct {
	authz.Record

	principal *authz.Principal
}

func describe(s *Subscription, v *view) about {
	r := authz.Record{Event: authz.EventSubscribe, Table: v.tableName(), Operation: OperationHash(s.request.Query)}
	if v.op.Where != nil {
		for _, i := range v.op.Where.Columns() {
			r.Filter = append(r.Filter, v.op.Table.Columns[i].Def.Name)
		}
	}
	return about{r, s.session.Principal()}
}

// denied records an operation that was refused.
func (d *Dispatcher) denied(s *Session, req schema.Request, err error) {
	if d.cfg.Audit == nil {
		return
	}
	d.audit(authz.Record{Event: authz.EventDeny, Reason: string(Explain(err).Code), Operation: OperationHash(req.Query)}, s.client, s.Principal())
}

// ended counts how a subscription ended, and records what its client should not expect.
func (d *Dispatcher) ended(s *Subscription, err error) {
	d.tally.end(err)
	var e *schema.Error
	if errors.As(err, &e) && e.Code == schema.ResyncRequired {
		d.tally.resync(e.Reason)
		d.record(s, authz.EventResync, e.Reason)
	}
}
