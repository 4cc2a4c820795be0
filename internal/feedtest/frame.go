package feedtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"
)

// The kinds of frames, as the API spells them.
const (
	Insert   = "INSERT"
	Update   = "UPDATE"
	Delete   = "DELETE"
	Enter    = "ENTER"
	Leave    = "LEAVE"
	Truncate = "TRUNCATE"
	Snapshot = "SNAPSHOT"
	Reset    = "RESET"
	Live     = "LIVE"
	Progress = "PROGRESS"
)

// A Frame is one change object of the API, as a client gets it.
type Frame struct {
	Kind        string       `json:"kind"`
	RowID       string       `json:"rowId"`
	Key         Object       `json:"key"`
	Row         Object       `json:"row"`
	Old         Object       `json:"old"`
	Changed     []string     `json:"changed"`
	Cursor      string       `json:"cursor"`
	Transaction *Transaction `json:"transaction"`
	Reason      string       `json:"reason"`
}

// An Object is a JSON object by field, its values as they were sent; nil for null.
type Object map[string]json.RawMessage

// A Transaction is the ChangeTransaction of a frame. XID and CommitLSN are there where the
// service exposes positions.
type Transaction struct {
	ID         string `json:"id"`
	CommitTime string `json:"commitTime"`
	Last       bool   `json:"last"`
	XID        Scalar `json:"xid"`
	CommitLSN  Scalar `json:"commitLsn"`
}

// A Scalar is a JSON string or number, as text; "" for null.
type Scalar string

// UnmarshalJSON takes a string, a number or null.
func (s *Scalar) UnmarshalJSON(data []byte) error {
	switch {
	case string(data) == "null":
		*s = ""
	case len(data) > 0 && data[0] == '"':
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		*s = Scalar(text)
	default:
		*s = Scalar(data)
	}
	return nil
}

// Commit is the LSN of the frame's transaction, 0 where the frame does not tell it.
func (f *Frame) Commit() pglogrepl.LSN {
	if f.Transaction == nil || f.Transaction.CommitLSN == "" {
		return 0
	}
	lsn, err := pglogrepl.ParseLSN(string(f.Transaction.CommitLSN))
	if err != nil {
		return 0
	}
	return lsn
}

// change tells that the frame is of a change of the table, with a place in the commit order.
func (f *Frame) change() bool {
	switch f.Kind {
	case Insert, Update, Delete, Enter, Leave, Truncate:
		return true
	}
	return false
}

// String is for messages of tests.
func (f *Frame) String() string {
	var b strings.Builder
	b.WriteString(f.Kind)
	if f.Key != nil {
		key, _ := json.Marshal(f.Key)
		b.WriteByte(' ')
		b.Write(key)
	}
	if lsn := f.Commit(); lsn != 0 {
		fmt.Fprintf(&b, " at %s", lsn)
	}
	return b.String()
}

// ParseFrame reads the payload of a next message, {"data": {field: …}, "extensions": …}. A
// payload with errors, or whose extensions.cursor is not that of the frame, is an error.
func ParseFrame(payload []byte, field string) (*Frame, error) {
	var p struct {
		Data       map[string]*Frame `json:"data"`
		Errors     json.RawMessage   `json:"errors"`
		Extensions struct {
			Cursor string `json:"cursor"`
		} `json:"extensions"`
	}
	if err := json.NewDecoder(bytes.NewReader(payload)).Decode(&p); err != nil {
		return nil, fmt.Errorf("parse frame %.200q: %w", payload, err)
	}
	if p.Errors != nil {
		return nil, fmt.Errorf("parse frame: the payload has errors: %s", p.Errors)
	}
	f := p.Data[field]
	if f == nil || len(p.Data) != 1 {
		return nil, fmt.Errorf("parse frame %.200q: want the field %s alone", payload, field)
	}
	if p.Extensions.Cursor != f.Cursor {
		return nil, fmt.Errorf("parse frame: extensions.cursor is %q, cursor is %q", p.Extensions.Cursor, f.Cursor)
	}
	return f, nil
}
