package explain

import (
	"fmt"
	"strings"
)

// String is the report for people, in lines.
func (r *Report) String() string {
	var b strings.Builder
	who := r.Role
	if r.Subject != "" {
		who += ", subject " + r.Subject
	}
	fmt.Fprintf(&b, "%s (table %s) as %s\n", r.Field, r.Table, who)
	if len(r.Unreadable) > 0 {
		fmt.Fprintf(&b, "\nColumns\n  not readable: %s\n", strings.Join(r.Unreadable, ", "))
	}
	b.WriteString("\nPolicies\n")
	r.policies(&b)
	b.WriteString("\nIndex\n  " + r.Index.String() + "\n")
	if r.Row != nil {
		fmt.Fprintf(&b, "\nRow %s\n", r.Row.Key)
		r.Row.write(&b)
	}
	return b.String()
}

func (r *Report) policies(b *strings.Builder) {
	switch {
	case !r.RowSecurity:
		b.WriteString("  none bind the role: privileges alone decide\n")
		return
	case len(r.Policies) == 0:
		b.WriteString("  none let the role see any row\n")
		return
	}
	width := 0
	for _, p := range r.Policies {
		width = max(width, len([]rune(p.Name)))
	}
	asked := false
	for _, p := range r.Policies {
		kind := ""
		if p.Restrictive {
			kind = "restrictive, "
		}
		fmt.Fprintf(b, "  %-*s  %s%s\n", width, p.Name, kind, p.Way)
		indent := strings.Repeat(" ", width+4)
		b.WriteString(indent + strings.Join(strings.Fields(p.Using), " ") + "\n")
		if len(p.Keeps) > 0 {
			b.WriteString(indent + "kept in process: " + strings.Join(p.Keeps, "; ") + "\n")
		}
		if p.Why != "" {
			b.WriteString(indent + "not faster because " + p.Why + "\n")
		}
		for _, m := range p.Moments {
			b.WriteString(indent + "mind: " + m + "\n")
		}
		asked = asked || p.Way == "postgres"
	}
	if asked {
		b.WriteString("  PostgreSQL is asked about each change that concerns the subscription: other tables and\n" +
			"  the clock count as they are then, and a change of them alone delivers nothing\n")
	}
}

// String tells in a line what the index goes by.
func (i Index) String() string {
	switch {
	case i.Never:
		return "no row could be visible: no change is looked at"
	case len(i.Terms) == 0:
		return "none: every change of the table is looked at"
	}
	terms := make([]string, len(i.Terms))
	for k, t := range i.Terms {
		switch {
		case t.By == byWhere:
			terms[k] = t.Column + " is as the where argument has it"
		case t.Values > len(t.Of):
			terms[k] = fmt.Sprintf("%s is one of %d values (policies)", t.Column, t.Values)
		default:
			terms[k] = t.Column + " is " + strings.Join(t.Of, " or ") + " (policies)"
		}
	}
	return "a change is looked at only where " + strings.Join(terms, ", and ")
}

func (r *Row) write(b *strings.Builder) {
	width := len("where")
	for _, p := range r.Policies {
		width = max(width, len([]rune(p.Policy)))
	}
	for _, p := range r.Policies {
		fmt.Fprintf(b, "  %-*s  %s\n", width, p.Policy, p.Verdict)
	}
	if r.Where != "" {
		fmt.Fprintf(b, "  %-*s  %s\n", width, "where", r.Where)
	}
	if r.Delivered {
		b.WriteString("  delivered\n")
		return
	}
	b.WriteString("  not delivered: " + r.Why + "\n")
}
