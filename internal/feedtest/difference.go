package feedtest

import (
	"maps"
	"slices"
)

// expect adds to an eye's stream what a commit means to its subscription: before and after are
// the keys that the SELECT returned, q has the keys that the commit touched, in order, and was
// their rows as they were.
func (o *oracle) expect(c *commit, s *Subscription, e *eye, q question, was Rows, before, after map[string]bool) {
	t, touched := c.touched[s.Table], q[s.Table]
	var keys []string
	if touched != nil {
		keys = touched.keys
	}
	first := len(e.stream.Frames)
	add := func(x Expected) {
		x.Commit, x.XID = c.lsn, c.xid
		e.stream.Frames = append(e.stream.Frames, x)
	}
	if t != nil && t.truncated {
		before = nil
		clear(e.seen)
		add(Expected{Kind: Truncate})
	}
	if o.full {
		changed := func(key string) bool { return touched != nil && touched.has[key] && was[key] != o.world[s.Table][key] }
		keys = append(slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !changed(key) }), others(changed, before, after)...)
	}
	for _, key := range keys {
		is := o.world[s.Table][key]
		old := was[key]
		if touched == nil || !touched.has[key] {
			old = is
		}
		if kind := kindOf(s, old, is, before[key], after[key]); kind != "" {
			x := Expected{Kind: kind, Key: key}
			if before[key] {
				x.Old = old
			}
			if after[key] {
				x.Row = is
			}
			add(x)
		}
		delete(e.seen, key)
		if after[key] {
			e.seen[key] = true
		}
	}
	if n := len(e.stream.Frames); n > first {
		e.stream.Frames[n-1].Last = true
	}
}

// kindOf is the table in the comment of Reference; "" for nothing.
func kindOf(s *Subscription, old, is *Image, before, after bool) string {
	switch {
	case !before && after && old == nil:
		return Insert
	case !before && after:
		return Enter
	case before && !after && is == nil:
		return Delete
	case before && !after:
		return Leave
	case before && after && len(s.differ(old, is)) > 0:
		return Update
	}
	return ""
}

// others are the keys that changed their visibility while their rows stayed as they were.
func others(changed func(key string) bool, before, after map[string]bool) []string {
	out := make(map[string]bool)
	for _, view := range []map[string]bool{before, after} {
		for key := range view {
			if before[key] != after[key] && !changed(key) {
				out[key] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(out))
}
