package fanout

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/rowtide/rowtide/authz"
)

// claimsSetting is the setting that holds the token's claims as JSON, as in PostgREST.
const claimsSetting = "request.jwt.claims"

// ownClaims are the claims of the token's own life (RFC 7519, 4.1): every token has others, and
// what a row's readers are does not hang on them.
var ownClaims = [...]string{"exp", "iat", "nbf", "jti"}

// sameClaims tells whether policies have the same to go by, apart from the token's own life.
func sameClaims(a, b *authz.Principal) bool {
	if a.Key() == b.Key() {
		return true
	}
	return a.Role == b.Role && slices.EqualFunc(a.Settings, b.Settings, func(x, y authz.Setting) bool {
		if x == y {
			return true
		}
		return x.Name == y.Name && x.Name == claimsSetting && sameObject(x.Value, y.Value)
	})
}

func sameObject(a, b string) bool {
	var x, y map[string]json.RawMessage
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	for _, c := range ownClaims {
		delete(x, c)
		delete(y, c)
	}
	return maps.EqualFunc(x, y, func(v, w json.RawMessage) bool { return string(v) == string(w) })
}
