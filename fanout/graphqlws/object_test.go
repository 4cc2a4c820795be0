package graphqlws

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzObject compares with encoding/json, which takes keys that stand in an object twice.
//
// Covers S04.
func FuzzObject(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { "a" : 1 , "b":[1,{"c":"]}"},"\\\""] , "\u0061b" : null } `, `{"a":"\"","b":-1.5e+3,"c":true,"d":{},"e":[]}`,
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":1}x`, `[]`, `"a"`, ``, `{"":""}`, `{"a":{"b":{"c":[[[]]]}}}`, `{"\ud800":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) {
			return // parse has refused it
		}
		o, err := readObject(data)
		var want map[string]json.RawMessage
		valid := json.Unmarshal(data, &want) == nil && want != nil
		if err != nil {
			if valid && !strings.Contains(err.Error(), "twice") {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		if !valid || len(o) != len(want) {
			t.Fatalf("%q: read %d members of %d", data, len(o), len(want))
		}
		for key, value := range want {
			if got, ok := o.get(key); !ok || string(got) != string(value) {
				t.Errorf("%q: %q is %q, want %q", data, key, got, value)
			}
			var s string
			isText := value[0] == '"' && json.Unmarshal(value, &s) == nil
			if got, ok := text(value); ok != isText || got != s {
				t.Errorf("%q: %q is the text %q, %v", data, key, got, ok)
			}
		}
	})
}

// The time that a message takes rises with its size and no faster.
//
// Covers S10.
func TestAnObjectOfManyKeysIsReadOnceThrough(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 500_000 {
		fmt.Fprintf(&b, `,"%d":0`, i)
	}
	many := "{" + b.String()[1:] + "}"
	if o, err := readObject([]byte(many)); err != nil || len(o) != 500_000 {
		t.Errorf("%d members, %v", len(o), err)
	}
	if _, err := readObject([]byte(many[:len(many)-1] + `,"499999":1}`)); err == nil {
		t.Error("a key stands there twice")
	}
}
