package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A Row is why a row, as it is now, is delivered or not.
type Row struct {
	Key string `json:"key"`
	// Policies are the verdicts of each policy alone: "true", "not true", or what it raises.
	Policies []Verdict `json:"policies"`
	// Visible tells that the policies together let the row through.
	Visible bool `json:"visible"`
	// Where is "matches", "does not match", or why that cannot be told; "" for none.
	Where string `json:"where,omitempty"`
	// Delivered tells that changes of the row are delivered. Otherwise Why says what keeps it.
	Delivered bool   `json:"delivered"`
	Why       string `json:"why,omitempty"`
}

// A Verdict is that of one policy.
type Verdict struct {
	Policy  string `json:"policy"`
	Verdict string `json:"verdict"`
}

// An examiner looks at one row.
type examiner struct {
	cfg   Config
	judge *rls.Postgres
	audit *recorder
	op    *schema.Operation
	image cdc.Row
	xid   uint32
}

func (x *examiner) row(ctx context.Context) (*Row, error) {
	key, err := readKey(x.op.Table, x.cfg.Row)
	if err != nil {
		return nil, err
	}
	url := x.cfg.AdminURL
	if url == "" {
		url = x.cfg.URL
	}
	if x.image, x.xid, err = rls.Lookup(ctx, url, x.op.Table, key); err != nil {
		return nil, x.lookupError(err)
	}
	out := &Row{Key: x.cfg.Row, Policies: []Verdict{}}
	if err := x.policies(ctx, out); err != nil {
		return nil, err
	}
	if x.op.Where != nil {
		out.Where = x.where(ctx)
	}
	switch {
	case !out.Visible:
		out.Why = "the policies do not let the role see it"
	case x.op.Where != nil && out.Where != matches:
		out.Why = "the where argument " + out.Where
	default:
		out.Delivered = true
	}
	return out, nil
}

// readKey reads the texts of a key's columns.
func readKey(t *schema.Table, row string) ([]string, error) {
	names := make([]string, len(t.Key))
	for i, k := range t.Key {
		names[i] = t.Columns[k].Def.Name
	}
	if len(names) == 1 && !strings.HasPrefix(row, "{") {
		return []string{row}, nil
	}
	var values map[string]any
	d := json.NewDecoder(strings.NewReader(row))
	d.UseNumber()
	if err := d.Decode(&values); err != nil || len(values) != len(names) {
		return nil, fmt.Errorf(`--row %q is no key of %s: write a JSON object of %s`, row, t.Def.SQLName(), strings.Join(names, ", "))
	}
	out := make([]string, len(names))
	for i, k := range t.Key {
		v, ok := values[names[i]]
		if !ok {
			v, ok = values[t.Columns[k].Name]
		}
		if !ok || v == nil {
			return nil, fmt.Errorf("--row %q does not have the key's column %s", row, names[i])
		}
		out[i] = fmt.Sprint(v)
	}
	return out, nil
}

func (x *examiner) lookupError(err error) error {
	var pe *pgconn.PgError
	switch {
	case errors.Is(err, rls.ErrNoRow):
		return fmt.Errorf("there is no row %s in %s now: only rows that are there can be explained", x.cfg.Row, x.op.Table.Def.SQLName())
	case errors.As(err, &pe) && pe.Code == "42501": // insufficient_privilege
		return fmt.Errorf("the login may not read the row past its policies: set --admin-url to that of a superuser: %s", pe.Message)
	case errors.As(err, &pe) && strings.HasPrefix(pe.Code, "22"): // data_exception
		return fmt.Errorf("--row %q is no key of %s: %s", x.cfg.Row, x.op.Table.Def.SQLName(), pe.Message)
	}
	return fmt.Errorf("read the row: %w", err)
}

// policies judges the row by each policy alone, and by all.
func (x *examiner) policies(ctx context.Context, out *Row) error {
	t, role := x.op.Table, x.cfg.Principal.Role
	for _, i := range t.Def.Access[role].Policies {
		if !t.Def.Access[role].RowSecurity {
			break
		}
		v, err := x.ask(ctx, alone(t, role, i))
		if err != nil {
			return err
		}
		verdict := map[authz.Verdict]string{authz.Visible: "true", authz.Hidden: "not true", authz.Undecided: "cannot be told"}[v]
		if raised := x.audit.take(); raised != "" {
			verdict = raised
		}
		out.Policies = append(out.Policies, Verdict{Policy: t.Def.Policies[i].Name, Verdict: verdict})
	}
	v, err := x.ask(ctx, t)
	out.Visible = v == authz.Visible
	return err
}

// alone is the table with one policy, which permits.
func alone(t *schema.Table, role string, policy int) *schema.Table {
	def, table := *t.Def, *t
	def.Policies = slices.Clone(def.Policies)
	def.Policies[policy].Permissive = true
	a := def.Access[role]
	a.Policies = []int{policy}
	def.Access = map[string]schema.Access{role: a}
	table.Def = &def
	return &table
}

func (x *examiner) ask(ctx context.Context, t *schema.Table) (authz.Verdict, error) {
	verdicts, err := x.judge.Judge(ctx, authz.Question{XID: x.xid, Commit: rls.StillCommit, Table: t, Images: []cdc.Row{x.image}, Principals: []*authz.Principal{x.cfg.Principal}})
	if err != nil {
		return 0, err
	}
	return verdicts[0][0], nil
}

const matches = "matches"

// where tells what the filter says of the row. A filter asks for comparisons until it has all.
func (x *examiner) where(ctx context.Context) string {
	facts := &schema.Facts{}
	for range 100 {
		ok, err := x.op.Where.Match(x.image, facts)
		switch wanted := facts.Wanted(); {
		case err == nil && ok:
			return matches
		case err == nil:
			return "does not match"
		case !errors.Is(err, schema.ErrUnasked) || len(wanted) == 0:
			return "cannot be told: " + err.Error()
		default:
			answers, err := x.cfg.Compare(ctx, wanted)
			if err != nil {
				return "cannot be told: " + err.Error()
			}
			facts.Learn(wanted, answers)
		}
	}
	return "cannot be told: it asks PostgreSQL over and over"
}

// A recorder keeps why images were hidden or not decided.
type recorder struct {
	mu  sync.Mutex
	why string
}

// Record implements authz.Auditor.
func (r *recorder) Record(e authz.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case e.SQLState != "":
		r.why = "raises " + e.SQLState + " (" + e.Reason + ")"
	case e.Detail != "":
		r.why = e.Reason + ": " + e.Detail
	default:
		r.why = e.Reason
	}
}

// take gives the last, and forgets it.
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := r.why
	r.why = ""
	return why
}
