package feedtest

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// The types that the tables of tests use (pg_type.dat).
const (
	oidBool        = 16
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidJSON        = 114
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

// A Value is a column of a row as Postgres prints it.
type Value struct {
	Text string
	Null bool
}

const (
	pgTimestamptz = "2006-01-02 15:04:05.999999999-07"
	pgTimestamp   = "2006-01-02 15:04:05.999999999"
	isoTimestamp  = "2006-01-02T15:04:05.999999999"
)

// encode writes a value as the API does: lossless, so numbers that JavaScript cannot hold are
// strings.
func encode(oid uint32, v Value) json.RawMessage {
	if v.Null {
		return json.RawMessage("null")
	}
	text := v.Text
	switch oid {
	case oidBool:
		if text == "t" {
			return json.RawMessage("true")
		}
		return json.RawMessage("false")
	case oidInt2, oidInt4, oidJSON, oidJSONB:
		return json.RawMessage(text)
	case oidTimestamptz:
		if at, err := time.Parse(pgTimestamptz, text); err == nil {
			text = at.UTC().Format(time.RFC3339Nano)
		}
	case oidTimestamp:
		text = strings.Replace(text, " ", "T", 1)
	}
	out, _ := json.Marshal(text)
	return out
}

// same tells whether JSON from the API says the value that Postgres prints. JSON's freedoms
// (escapes, white space, the order of keys) do not count, its types do.
func same(oid uint32, raw json.RawMessage, v Value) bool {
	if v.Null || string(raw) == "null" {
		return v.Null == (string(raw) == "null") || (oid == oidJSON || oid == oidJSONB) && v.Text == "null"
	}
	switch oid {
	case oidBool, oidInt2, oidInt4:
		return bytes.Equal(raw, encode(oid, v))
	case oidJSON, oidJSONB:
		a, ok := decode(raw)
		b, fine := decode([]byte(v.Text))
		return ok && fine && reflect.DeepEqual(a, b)
	}
	text, ok := unquote(raw)
	if !ok {
		return false
	}
	switch oid {
	case oidTimestamptz:
		return sameTime(time.RFC3339Nano, text, pgTimestamptz, v.Text)
	case oidTimestamp:
		return sameTime(isoTimestamp, text, pgTimestamp, v.Text)
	}
	return text == v.Text
}

// sameTime compares moments; where one is none (infinity), texts.
func sameTime(layoutA, a, layoutB, b string) bool {
	at, errA := time.Parse(layoutA, a)
	bt, errB := time.Parse(layoutB, b)
	if errA != nil || errB != nil {
		return errA != nil && errB != nil && a == b
	}
	return at.Equal(bt)
}

func decode(raw []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return nil, false
	}
	return v, true
}

// unquote reads a JSON string.
func unquote(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[len(raw)-1] != '"' || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", false
	}
	return text, true
}

// plain is the text of a scalar of a key: a string's content, anything else as it stands.
func plain(raw json.RawMessage) string {
	if text, ok := unquote(raw); ok {
		return text
	}
	return string(raw)
}
