package rls

import (
	"strconv"

	"github.com/rowtide/rowtide/cdc"
)

// maxWork bounds the rows that the sub-selects of one evaluation look at. What needs more has no
// index that helps: Postgres is asked.
const maxWork = 200_000

// each calls yield for each row of a sub-select, while it gives true.
func (s *setQuery) each(e *evaluation, j *joining, yield func() bool) {
	for _, f := range j.first {
		if !f.eval(e).isTrue() {
			return
		}
	}
	s.step(e, j.steps, yield)
}

func (s *setQuery) step(e *evaluation, steps []joinStep, yield func() bool) bool {
	if len(steps) == 0 {
		return yield()
	}
	st := &steps[0]
	row := func(r cdc.Row) bool {
		if e.work++; e.work > maxWork {
			e.refuse()
		}
		e.rows[st.table.slot] = r
		for _, f := range st.conds {
			if !f.eval(e).isTrue() {
				return !e.refused
			}
		}
		return !e.refused && s.step(e, steps[1:], yield)
	}
	if st.index < 0 {
		return st.table.kept.rows.all(e.at, row)
	}
	key, known := "", true
	for _, k := range st.keys {
		d := k.eval(e)
		if d.null {
			known = false
			break
		}
		key = appendKey(key, k.typ, d)
	}
	if !known {
		return true // nothing equals NULL
	}
	return st.table.kept.rows.find(e.at, st.index, key, row)
}

// indexable tells types whose equal values are printed alike.
func indexable(typ string) bool {
	switch typ {
	case "int2", "int4", "int8", "text", "name", "uuid", "bool":
		return true
	}
	return len(typ) > 0 && typ[0] == '"' && typ[len(typ)-1] == '"' // an enum
}

// appendKey appends a value to the key of an index, as appendKeyText does the text that the stream
// prints.
func appendKey(key, typ string, d datum) string {
	switch typ {
	case "int2", "int4", "int8":
		return appendKeyText(key, strconv.FormatInt(d.i, 10))
	case "bool":
		if d.i != 0 {
			return appendKeyText(key, "t")
		}
		return appendKeyText(key, "f")
	}
	return appendKeyText(key, d.s)
}

func appendKeyText(key, text string) string {
	if key == "" {
		return strconv.Itoa(len(text)) + ":" + text
	}
	return key + strconv.Itoa(len(text)) + ":" + text
}
