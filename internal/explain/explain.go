// Package explain tells how a subscription is judged and found: which way each policy takes and
// why not a faster one, what the index goes by, and why one row is delivered or not.
//
// It asks the parts that do the work, so it cannot say otherwise than they do. It is for operators:
// what it tells is more than a subscriber may know.
package explain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// A Config says what to explain.
type Config struct {
	// URL is of the service login, or of a superuser: policies are evaluated by it. Required.
	URL string
	// AdminURL is of a login that sees every row. Defaults to URL.
	AdminURL string
	// Schemas are those in which policy functions find what they name without a schema.
	Schemas []string
	// Catalog, Principal and Request are whose subscription it is, to what. Required.
	Catalog   *schema.Catalog
	Principal *authz.Principal
	Request   schema.Request
	// Row is the key of a row: its value, or a JSON object where it has several columns. Defaults
	// to none.
	Row string
	// Sets has what policies ask of other tables kept, of tables in Publication.
	Sets        bool
	Publication string
	// Moments tells what the policies of a relation ask of the moment when they are judged, by their names, for
	// people. Required.
	Moments func(ctx context.Context, relation uint32) (map[string][]string, error)
	// Compare asks Postgres to compare texts. Required with Row.
	Compare func(context.Context, []schema.Fact) ([]int, error)
}

// A Report is what there is to tell.
type Report struct {
	Field   string `json:"field"`
	Table   string `json:"table"`
	Role    string `json:"role"`
	Subject string `json:"subject,omitempty"`
	// Unreadable are the columns that the role may not read.
	Unreadable []string `json:"unreadable,omitempty"`
	// RowSecurity tells that policies bind the role.
	RowSecurity bool     `json:"rowSecurity"`
	Policies    []Policy `json:"policies"`
	Index       Index    `json:"index"`
	Row         *Row     `json:"row,omitempty"`
}

// A Policy is one that applies to the role.
type Policy struct {
	Name        string `json:"name"`
	Restrictive bool   `json:"restrictive,omitempty"`
	Using       string `json:"using"`
	Way         string `json:"way"`
	// Why says what keeps it from a faster way.
	Why string `json:"why,omitempty"`
	// Keeps is what is kept in process for it, of which tables.
	Keeps []string `json:"keeps,omitempty"`
	// Moments say what in it depends on when it is judged, rather than on the change.
	Moments []string `json:"moments,omitempty"`
}

// An Index is by what a change finds the subscription.
type Index struct {
	// Never tells that no row could be visible: the subscription is looked at for no change.
	Never bool `json:"never,omitempty"`
	// Terms are conditions that a row must meet to be looked at. Without any, all are.
	Terms []Term `json:"terms"`
}

// A Term is one condition: a column has one of some values.
type Term struct {
	Column string `json:"column"`
	// By is "policies" or "where".
	By     string `json:"by"`
	Values int    `json:"values"`
	// Of are the values, where policies ask for few.
	Of []string `json:"of,omitempty"`
}

const byPolicies, byWhere = "policies", "where"

// fewValues is how many values of a term are told.
const fewValues = 3

// Explain gives the report. Its errors are for people.
func Explain(ctx context.Context, c Config) (*Report, error) {
	role := c.Catalog.Role(c.Principal.Role)
	if role == nil {
		return nil, fmt.Errorf("role %s does not exist: name one that psql's \\du lists", c.Principal.Role)
	}
	op, err := role.Compile(c.Request)
	switch {
	case err != nil:
		return nil, hidden(c.Catalog, role, c.Principal.Role, c.Request.Query, err)
	case op.Table == nil:
		return nil, errors.New("that is a query: explain takes a subscription")
	}
	audit := &recorder{}
	g, err := rls.New(rls.Config{ //nolint:contextcheck // closed below
		URL: c.URL, Audit: audit, Schemas: c.Schemas, Compile: true, Sets: c.Sets, Publication: c.Publication, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer g.Close() //nolint:contextcheck // closing outlives ctx
	if err := g.Still(ctx, op.Table); err != nil {
		return nil, fmt.Errorf("read what policies ask: %w", err)
	}
	moments, err := c.Moments(ctx, op.Table.Def.OID)
	if err != nil {
		return nil, err
	}
	r := report(g, op, c.Principal)
	for i := range r.Policies {
		r.Policies[i].Moments = moments[r.Policies[i].Name]
	}
	if c.Row == "" {
		return r, nil
	}
	x := &examiner{cfg: c, judge: g, audit: audit, op: op}
	if r.Row, err = x.row(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func report(g *rls.Postgres, op *schema.Operation, p *authz.Principal) *Report {
	def := op.Table.Def
	access := def.Access[p.Role]
	r := &Report{
		Field: op.Table.Field, Table: def.SQLName(), Role: p.Role, Subject: p.Subject, RowSecurity: access.RowSecurity,
		Policies: []Policy{}, Index: Index{Terms: []Term{}},
	}
	for i, may := range access.Columns {
		if !may {
			r.Unreadable = append(r.Unreadable, def.Columns[i].Name)
		}
	}
	if access.RowSecurity {
		for i, way := range g.Ways(op.Table, p.Role) {
			q := def.Policies[access.Policies[i]]
			r.Policies = append(r.Policies, Policy{Name: q.Name, Restrictive: !q.Permissive, Using: q.Using, Way: way.Way, Why: way.Why, Keeps: way.Keeps})
		}
	}
	terms, never := fanout.ExplainIndex(op, p, g)
	r.Index.Never = never
	for _, t := range terms {
		term := Term{Column: def.Columns[t.Column].Name, By: byPolicies, Values: t.Values}
		if t.Where {
			term.By = byWhere
		} else if t.Values <= fewValues {
			for _, e := range g.Narrow(op.Table, p) {
				if e.Column == t.Column && len(e.Values) == t.Values {
					term.Of = e.Values
				}
			}
		}
		r.Index.Terms = append(r.Index.Terms, term)
	}
	return r
}
