package jwt

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/rowtide/rowtide/schema"
)

// rawClaims keeps the claims as they came until the signature has been verified.
type rawClaims struct {
	gojwt.MapClaims // never filled: the parser wants a gojwt.Claims

	json []byte
}

// UnmarshalJSON keeps a copy.
func (c *rawClaims) UnmarshalJSON(b []byte) error {
	c.json = bytes.Clone(b)
	return nil
}

// readClaims decodes claims and refuses what Postgres could not read, or would read otherwise
// than we do.
func readClaims(raw []byte) (map[string]any, *schema.Error) {
	if len(raw) > maxClaims {
		return nil, unauthenticated("the token's claims are too large")
	}
	if !utf8.Valid(raw) {
		return nil, unauthenticated("the token's claims are not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a float64 would round ids beyond 2^53
	var claims map[string]any
	if err := d.Decode(&claims); err != nil || claims == nil {
		return nil, unauthenticated("the token's claims are not a JSON object")
	}
	return claims, checkClaim(claims, maxDepth)
}

// checkClaim bounds the nesting, and refuses NUL, which no text of Postgres can hold, and
// U+FFFD, which is what the decoder makes of a lone surrogate: two subjects would become one.
func checkClaim(v any, depth int) *schema.Error {
	if depth == 0 {
		return unauthenticated("the token's claims are nested too deeply")
	}
	switch v := v.(type) {
	case string:
		if strings.ContainsAny(v, "\x00\uFFFD") {
			return unauthenticated("the token's claims contain a character that is not allowed")
		}
	case []any:
		for _, e := range v {
			if err := checkClaim(e, depth-1); err != nil {
				return err
			}
		}
	case map[string]any:
		for k, e := range v {
			if err := checkClaim(k, depth-1); err != nil {
				return err
			}
			if err := checkClaim(e, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// compact writes a claim as JSON: keys sorted, numbers as they came, nothing escaped for HTML.
func compact(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// settingValue is what a setting of one claim holds: a string as it is, nothing where there is
// no claim or null, all else as JSON.
func settingValue(claim any) (string, error) {
	switch c := claim.(type) {
	case nil:
		return "", nil
	case string:
		return c, nil
	}
	return compact(claim)
}

// subjectOf is the claim sub. Some issuers write a number: two of them must not both be "",
// or one could take over the other's connection.
func subjectOf(claims map[string]any) (string, error) {
	switch sub := claims["sub"].(type) {
	case nil:
		return "", nil
	case string:
		return sub, nil
	case json.Number:
		return sub.String(), nil
	}
	return "", gojwt.ErrInvalidType
}

// registeredClaims shows the registered claims to the library's validator, strictly: a time is
// a number and nothing else, where the library would take some of what is not.
type registeredClaims struct{ all map[string]any }

// GetExpirationTime is exp.
func (c registeredClaims) GetExpirationTime() (*gojwt.NumericDate, error) { return c.date("exp") }

// GetIssuedAt is iat.
func (c registeredClaims) GetIssuedAt() (*gojwt.NumericDate, error) { return c.date("iat") }

// GetNotBefore is nbf.
func (c registeredClaims) GetNotBefore() (*gojwt.NumericDate, error) { return c.date("nbf") }

// GetIssuer is iss.
func (c registeredClaims) GetIssuer() (string, error) { return c.text("iss") }

// GetSubject is sub.
func (c registeredClaims) GetSubject() (string, error) { return subjectOf(c.all) }

// GetAudience is aud: a string or an array of strings (RFC 7519, 4.1.3).
func (c registeredClaims) GetAudience() (gojwt.ClaimStrings, error) {
	list, ok := c.all["aud"].([]any)
	if !ok {
		s, err := c.text("aud")
		return gojwt.ClaimStrings{s}, err
	}
	out := make(gojwt.ClaimStrings, 0, len(list))
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			return nil, gojwt.ErrInvalidType
		}
		out = append(out, s)
	}
	return out, nil
}

func (c registeredClaims) text(name string) (string, error) {
	v, ok := c.all[name]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", gojwt.ErrInvalidType
	}
	return s, nil
}

func (c registeredClaims) date(name string) (*gojwt.NumericDate, error) {
	v, ok := c.all[name]
	if !ok {
		return nil, nil // the library's way to say that the claim is missing
	}
	n, ok := v.(json.Number)
	if !ok {
		return nil, gojwt.ErrInvalidType
	}
	const year9999 = 253402300799 // the last second that RFC 3339 can write
	f, err := n.Float64()
	if err != nil || f < 0 || f > year9999 || math.IsNaN(f) {
		return nil, gojwt.ErrInvalidType
	}
	return gojwt.NewNumericDate(time.Unix(int64(f), 0)), nil
}
