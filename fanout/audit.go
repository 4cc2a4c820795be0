package fanout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"unique"

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
	d.audit(authz.Record{Event: event, Reason: reason, Table: s.about.table.Value(), Operation: s.about.operation.String()}, s.session.client, s.about.principal)
}

// An about is what the audit log tells of a subscription.
type about struct {
	operation OperationHash
	table     unique.Handle[string]
	principal *authz.Principal
}

func describe(s *Session, req schema.Request, v *view) about {
	return about{HashOperation(req.Query), unique.Make(v.tableName()), s.Principal()}
}

// An OperationHash names a document in logs.
type OperationHash [8]byte

// HashOperation gives the first bytes of a document's SHA-256.
func HashOperation(document string) OperationHash {
	sum := sha256.Sum256([]byte(document))
	return OperationHash(sum[:8])
}

// String is the hash in hexadecimal.
func (h OperationHash) String() string { return hex.EncodeToString(h[:]) }

func (d *Dispatcher) subscribed(s *Subscription) {
	if d.cfg.Audit == nil {
		return
	}
	v := s.present()
	r := authz.Record{Event: authz.EventSubscribe, Table: s.about.table.Value(), Operation: s.about.operation.String()}
	if v.op.Where != nil {
		for _, i := range v.op.Where.Columns() {
			r.Filter = append(r.Filter, v.op.Table.Columns[i].Def.Name)
		}
	}
	d.audit(r, s.session.client, s.about.principal)
}

// denied records an operation that was refused.
func (d *Dispatcher) denied(s *Session, req schema.Request, err error) {
	if d.cfg.Audit == nil {
		return
	}
	d.audit(authz.Record{Event: authz.EventDeny, Reason: string(Explain(err).Code), Operation: HashOperation(req.Query).String()}, s.client, s.Principal())
}

// ended counts how a subscription ended, and records what its client should not expect.
func (d *Dispatcher) ended(s *Subscription, err error) {
	d.tally.end(err)
	var e *schema.Error
	if errors.As(err, &e) && e.Code == schema.ResyncRequired {
		d.tally.resync(e.Reason)
		d.record(s, authz.EventResync, e.Reason)
	}
	if errors.As(err, &e) && e.Reason == reasonOverspent {
		d.record(s, authz.EventDeny, e.Reason)
	}
}
