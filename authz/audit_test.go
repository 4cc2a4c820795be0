package authz_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rowtide/rowtide/authz"
)

// Covers S60.
func TestARecordIsOneLineOfBoundedLength(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&b, nil))
	hostile := "a\r\n{\"event\":\"deny\"}\x1b[2J\u2028" + strings.Repeat("é", 1000)
	r := authz.Record{Event: authz.EventDeny, Role: "web_user", Subject: hostile, Table: "public.t", Reason: "policy_error", SQLState: "22012", Count: 3}
	r.Log(log, slog.LevelWarn)
	line := b.String()
	if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\x1b\r\u2028") || len(line) > 1000 || !utf8.ValidString(line) {
		t.Errorf("line of %d bytes: %q", len(line), line)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"event": "deny", "role": "web_user", "table": "public.t", "reason": "policy_error", "sqlstate": "22012", "count": 3.0} {
		if got[k] != want {
			t.Errorf("%s is %v, want %v", k, got[k], want)
		}
	}
}

func TestPrincipalsDifferByRoleAndSettingsAlone(t *testing.T) {
	t.Parallel()
	settings := func(kv ...string) []authz.Setting {
		var out []authz.Setting
		for i := 0; i < len(kv); i += 2 {
			out = append(out, authz.Setting{Name: kv[i], Value: kv[i+1]})
		}
		return out
	}
	p := authz.NewPrincipal("r", "s", settings("a", "b"), time.Time{})
	if q := authz.NewPrincipal("r", "other", settings("a", "b"), time.Now()); p.Key() != q.Key() {
		t.Error("subject or end are in the key")
	}
	for _, q := range []*authz.Principal{
		authz.NewPrincipal("ra", "s", settings("", "b"), time.Time{}), authz.NewPrincipal("r", "s", settings("ab", ""), time.Time{}),
		authz.NewPrincipal("r", "s", settings("a", "b", "", ""), time.Time{}), authz.NewPrincipal("r", "s", nil, time.Time{}),
	} {
		if p.Key() == q.Key() {
			t.Errorf("%+v has the same key", q)
		}
	}
}
