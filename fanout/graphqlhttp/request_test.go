package graphqlhttp

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParametersAreRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]request{
		`{"query":"{a}"}`: {},
		` {"query":"{a}","variables":null,"operationName":null,"extensions":null} `: {},
		`{"query":"{a}","extensions":{"operationId":"x","other":[1]}}`:              {operationID: "x"},
		`{"query":"{a}","extensions":{"operationId":7}}`:                            {},
		`{"query":"{a}","extensions":{"operationId":null}}`:                         {},
	} {
		want.Query = "{a}"
		got, f := parseBody([]byte(body))
		if f != nil || got.Query != want.Query || got.OperationName != "" || got.operationID != want.operationID {
			t.Errorf("%s: got %+v %+v", body, got, f)
		}
	}
	got, f := parseBody([]byte(`{"query":"q","operationName":"n","variables":{"a":[{}]}}`))
	if f != nil || got.OperationName != "n" || string(got.Variables) != `{"a":[{}]}` {
		t.Errorf("got %+v %+v", got, f)
	}
	for _, body := range []string{`{"query":"q","extensions":{"operationId":"` + strings.Repeat("x", maxIDLength+1) + `"}}`, `{"QUERY":7}`, `{}`, `{"query":null}`, "null", "7"} {
		if _, f := parseBody([]byte(body)); f == nil || f.status != 400 {
			t.Errorf("%.40s: got %+v, want 400", body, f)
		}
	}
}

// FuzzRequest reads whatever comes: a body, a URL's parameters, Accept. What is taken is whole.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"query":"{a}","variables":{"a":1},"operationName":"A","extensions":{"operationId":"1"}}`,
		`[{"query":"{a}"}]`, `{"query":"\ud800","variables":[]}`, "query=%7Ba%7D&variables=%7B%7D&extensions=null", "query=a;b",
		`text/event-stream;q=0.5, multipart/mixed;boundary="-,";subscriptionSpec=1.0, */*;q=NaN`, strings.Repeat("[", 100), `{"query":"a","variables": {} }`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		body, fault := parseBody(data)
		if fault == nil {
			checkTaken(t, &body)
		}
		query, fault := parseQuery(string(data))
		if fault == nil {
			checkTaken(t, &query)
		}
		a := parseAccept([]string{string(data)})
		if len(a) > maxRanges {
			t.Errorf("%d ranges", len(a))
		}
		for m := range mediaTypes {
			if q := a.quality(m); q < 0 || q > maxQuality {
				t.Errorf("quality %d", q)
			}
		}
		if line := appendLine(nil, data); bytes.ContainsAny(line, "\r\n") || len(line) != len(data) {
			t.Errorf("line %q", line)
		}
		if c := cursorOf(data); !bytes.Contains(data, c) || bytes.ContainsAny(c, `"`) {
			t.Errorf("cursor %q", c)
		}
	})
}

func checkTaken(t *testing.T, r *request) {
	t.Helper()
	if !slices.ContainsFunc([]string{"", "null"}, func(s string) bool { return string(r.Variables) == s }) {
		if !json.Valid(r.Variables) || r.Variables[0] != '{' {
			t.Errorf("variables %q", r.Variables)
		}
	}
	if !utf8.ValidString(r.Query) || !utf8.ValidString(r.OperationName) || len(r.operationID) > maxIDLength {
		t.Errorf("taken: %+v", r)
	}
}
