package jwt

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A path leads to a claim: the keys of nested objects.
type path []string

// parsePath reads keys with dots between, in double quotes where a key has a dot of its own:
// app_metadata.role, "https://example.com/role".
func parsePath(s string) (path, error) {
	var out path
	for rest := s; ; {
		key, after, err := cutKey(rest)
		if err != nil {
			return nil, fmt.Errorf("parse claim path %q: %w", s, err)
		}
		out = append(out, key)
		if after == "" {
			return out, nil
		}
		if after[0] != '.' {
			return nil, fmt.Errorf("parse claim path %q: want a dot behind %q", s, key)
		}
		rest = after[1:]
	}
}

func cutKey(s string) (key, after string, err error) {
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		key, after, ok = strings.Cut(quoted, `"`)
		if !ok {
			return "", "", errors.New("a double quote is not closed")
		}
	} else {
		end := strings.IndexByte(s, '.')
		if end < 0 {
			end = len(s)
		}
		key, after = s[:end], s[end:]
	}
	if key == "" {
		return "", "", errors.New("a key is empty: write keys with one dot between")
	}
	return key, after, nil
}

// find gives the claim, or nil.
func (p path) find(claims map[string]any) any {
	var v any = claims
	for _, key := range p {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[key]
	}
	return v
}

// put sets the claim, making objects on the way.
func (p path) put(claims map[string]any, value any) error {
	object := claims
	for _, key := range p[:len(p)-1] {
		if object[key] == nil {
			object[key] = map[string]any{}
		}
		next, ok := object[key].(map[string]any)
		if !ok {
			return fmt.Errorf("set claim %s: %q is not an object", strings.Join(p, "."), key)
		}
		object = next
	}
	object[p[len(p)-1]] = value
	return nil
}

// settingName is what PostgreSQL takes for the name of a custom setting (valid_custom_variable_name
// in guc.c), in ASCII.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+$`)

// readSettings checks the claim settings. Only custom settings can be made: a claim must never
// reach role, search_path or row_security (S34), none of which has a dot.
func readSettings(in []ClaimSetting) ([]setting, error) {
	seen := map[string]bool{ClaimsSetting: true}
	out := make([]setting, 0, len(in))
	for _, s := range in {
		if !settingName.MatchString(s.Setting) {
			return nil, fmt.Errorf("read claim setting %q: a setting's name has a dot, such as app.tenant_id", s.Setting)
		}
		folded := strings.ToLower(s.Setting) // PostgreSQL compares names without regard to case
		if seen[folded] {
			return nil, fmt.Errorf("read claim setting %q: it is set twice; remove one", s.Setting)
		}
		seen[folded] = true
		p, err := parsePath(s.Claim)
		if err != nil {
			return nil, fmt.Errorf("read claim setting %q: %w", s.Setting, err)
		}
		out = append(out, setting{name: s.Setting, path: p})
	}
	return out, nil
}
