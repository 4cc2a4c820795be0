package feedtest

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseFrame(t *testing.T) {
	t.Parallel()
	f, err := ParseFrame([]byte(`{"data":{"notes":{"kind":"UPDATE","rowId":"r","key":{"id":"1"},"row":{"id":"1","n":null},
		"old":null,"changed":["n"],"cursor":"c","transaction":{"id":"t","commitTime":"2020-01-01T00:00:00Z","last":true,"xid":7,"commitLsn":"1/A"},
		"reason":null}},"extensions":{"cursor":"c"}}`), "notes")
	if err != nil {
		t.Fatal(err)
	}
	if f.Kind != Update || f.Commit() != 1<<32+10 || f.Transaction.XID != "7" || f.Old != nil || string(f.Row["n"]) != "null" || f.Reason != "" {
		t.Errorf("got %+v", f)
	}
	if s := f.String(); s != `UPDATE {"id":"1"} at 1/A` {
		t.Errorf("it shows as %s", s)
	}
	f, err = ParseFrame([]byte(`{"data":{"notes":{"kind":"LIVE","rowId":null,"cursor":"c","transaction":null}},"extensions":{"cursor":"c"}}`), "notes")
	if err != nil || f.Kind != Live || f.RowID != "" || f.Transaction != nil || f.Commit() != 0 {
		t.Errorf("got %+v, %v", f, err)
	}
	for payload, want := range map[string]string{
		`{"data":null,"errors":[{"message":"no"}]}`:                                   "has errors",
		`{"data":{"notes":{"kind":"LIVE","cursor":"c"}},"extensions":{"cursor":"d"}}`: "extensions.cursor",
		`{"data":{"notes":{"kind":"LIVE","cursor":"c"}}}`:                             "extensions.cursor",
		`{"data":{"other":{"kind":"LIVE"}}}`:                                          "want the field notes",
		`{"data":{"notes":{"kind":"LIVE"},"other":{"kind":"LIVE"}}}`:                  "want the field notes",
		`{"data":{"notes":`: "parse frame",
		`{"data":{"notes":{"kind":"X","transaction":{"xid":"\ud8"}}}}`: "parse frame",
		`{"data":{"notes":{"kind":"X","key":5}}}`:                      "parse frame",
	} {
		if _, err := ParseFrame([]byte(payload), "notes"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got the error %v, want one with %q", payload, err, want)
		}
	}
}

func TestSameValueInTheAPIAndInPostgres(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		oid  uint32
		raw  string
		text string
		want bool
	}{
		{oidBool, "true", "t", true},
		{oidBool, "false", "f", true},
		{oidBool, "false", "t", false},
		{oidBool, `"t"`, "t", false},
		{oidInt4, "5", "5", true},
		{oidInt4, `"5"`, "5", false},
		{oidInt4, "5.0", "5", false},
		{oidInt8, `"5"`, "5", true},
		{oidInt8, "5", "5", false},
		{oidNumeric, `"1.10"`, "1.10", true},
		{oidNumeric, `"1.1"`, "1.10", false},
		{oidNumeric, `"NaN"`, "NaN", true},
		{oidText, `"a\u003cb\n"`, "a<b\n", true},
		{oidText, `""`, "", true},
		{oidText, "null", "", false},
		{oidText, `"null"`, "null", true},
		{oidText, `"unfinished`, "unfinishe", false},
		{oidText, `"bad \x escape"`, "bad x escape", false},
		{oidJSONB, `{"b": [1.10, null], "a": "\u003c"}`, `{"a": "<", "b": [1.10, null]}`, true},
		{oidJSONB, `{"a":1.1}`, `{"a":1.10}`, false},
		{oidJSONB, `"x"`, `"x"`, true},
		{oidJSONB, `{} {}`, `{}`, false},
		{oidJSONB, "null", "null", true},
		{oidJSONB, `"{}"`, `{}`, false},
		{oidTimestamptz, `"2020-01-01T00:00:00.5Z"`, "2020-01-01 00:00:00.5+00", true},
		{oidTimestamptz, `"2020-01-01T01:00:00.500000+01:00"`, "2020-01-01 00:00:00.5+00", true},
		{oidTimestamptz, `"2020-01-01T00:00:00.4Z"`, "2020-01-01 00:00:00.5+00", false},
		{oidTimestamptz, `"2020-01-01 00:00:00.5+00"`, "2020-01-01 00:00:00.5+00", false},
		{oidTimestamptz, `"infinity"`, "infinity", true},
		{oidTimestamptz, `"-infinity"`, "infinity", false},
		{oidTimestamp, `"2020-01-01T00:00:00.5"`, "2020-01-01 00:00:00.5", true},
		{oidTimestamp, `"2020-01-01T00:00:00.5Z"`, "2020-01-01 00:00:00.5", false},
		{oidDate, `"2020-01-01"`, "2020-01-01", true},
		{oidDate, `"infinity"`, "infinity", true},
	} {
		v := Value{Text: tt.text}
		if got := same(tt.oid, json.RawMessage(tt.raw), v); got != tt.want {
			t.Errorf("type %d: %s is %s: %v", tt.oid, tt.raw, tt.text, got)
		}
		if !same(tt.oid, encode(tt.oid, v), v) {
			t.Errorf("type %d: %s is encoded as %s", tt.oid, tt.text, encode(tt.oid, v))
		}
	}
	null := Value{Null: true}
	if !same(oidText, json.RawMessage("null"), null) || same(oidText, json.RawMessage(`""`), null) || same(oidJSONB, json.RawMessage(`{}`), null) {
		t.Error("NULL is not told apart")
	}
}
