package schema

import (
	"strconv"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// Append writes the response to a change: {"data":{…},"extensions":{"cursor":…}}.
//
// It writes nothing that it does not know: where a selected value is not in the image, or not in
// a form that its type has, dst comes back as it was, with an UnknownValueError. Whoever sees
// that must resync the subscription ("undecodable").
func (s *Selection) Append(dst []byte, c *Change) ([]byte, error) {
	start := len(dst)
	var image cdc.Row
	for pc := 0; pc < len(s.program); {
		in := &s.program[pc]
		pc++
		dst = append(dst, in.fixed...)
		switch in.op {
		case doNothing:
		case doKey, doRow, doOld:
			image = c.image(in.op)
			if image == nil {
				dst = append(dst, "null"...)
				pc = in.at
			}
		case doTrans:
			if c.Transaction == nil {
				dst = append(dst, "null"...)
				pc = in.at
			}
		case doColumn:
			var ok bool
			if dst, ok = s.appendColumn(dst, in, image[in.at]); !ok {
				return dst[:start], s.unknown(in.at)
			}
		case doChanged:
			dst = s.appendChanged(dst, c)
		default:
			dst = s.appendFact(dst, in.op, c)
		}
	}
	return dst, nil
}

func (s *Selection) unknown(at int) error {
	return &UnknownValueError{Table: s.table.Def.SQLName(), Column: s.table.Columns[at].Def.Name}
}

func (c *Change) image(op opcode) cdc.Row {
	switch op {
	case doKey:
		return c.Key
	case doRow:
		return c.New
	default:
		return c.Old
	}
}

func (s *Selection) appendColumn(dst []byte, in *instruction, v cdc.Value) ([]byte, bool) {
	c := s.table.Columns[in.at]
	switch {
	case v.Kind() == cdc.Text:
		return in.write(dst, v.Text())
	case v.IsNull() && !c.nonNull:
		return append(dst, "null"...), true
	}
	return dst, false
}

// appendChanged names the fields that an UPDATE changed. Of all other kinds it is null: there is
// nothing to compare, or the subscriber saw one of the images only.
func (s *Selection) appendChanged(dst []byte, c *Change) []byte {
	if c.Kind != KindUpdate || c.Old == nil || c.New == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	first := true
	for _, i := range s.table.shown {
		if !differs(c.Old[i], c.New[i]) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		dst = append(dst, s.table.Columns[i].Name...)
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

// appendFact writes what is of the frame, not of a row.
func (s *Selection) appendFact(dst []byte, op opcode, c *Change) []byte {
	switch op { //nolint:exhaustive // the others are Append's
	case doKind:
		return appendQuoted(dst, c.Kind.String())
	case doRowID:
		if c.Key == nil {
			return append(dst, "null"...)
		}
		dst = s.table.appendRowID(append(dst, '"'), c.Key)
		return append(dst, '"')
	case doCursor:
		return appendOptional(dst, c.Cursor)
	case doReason:
		return appendOptional(dst, c.Reason)
	case doTransID:
		return appendQuoted(dst, c.Transaction.ID)
	case doCommitTime:
		dst = c.Transaction.CommitTime.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano)
		return append(dst, '"')
	case doLast:
		return strconv.AppendBool(dst, c.Transaction.Last)
	case doXID:
		dst = strconv.AppendUint(append(dst, '"'), uint64(c.Transaction.XID), 10)
		return append(dst, '"')
	case doCommitLSN:
		return appendQuoted(dst, c.Transaction.CommitLSN.String())
	}
	return append(dst, "null"...)
}

func appendOptional(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return appendQuoted(dst, s)
}

func appendQuoted(dst []byte, s string) []byte {
	dst, _ = writeString(dst, s)
	return dst
}
