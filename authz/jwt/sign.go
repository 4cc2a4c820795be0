package jwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"
)

// Sign makes a token that this Verifier takes: with the role where RoleClaim looks for it, the
// configured issuer and audience, and an end. Claims is a JSON object with the others, or
// empty; the claims that Sign itself sets win. It is for demo, development and tests.
func (v *Verifier) Sign(role string, claims json.RawMessage, ttl time.Duration) (string, error) {
	if len(v.secret) == 0 {
		return "", errors.New("sign token: there is no secret; set one")
	}
	all := map[string]any{}
	if len(claims) > 0 {
		read, problem := readClaims(claims)
		if problem != nil {
			return "", fmt.Errorf("sign token: %w", problem)
		}
		maps.Copy(all, read)
	}
	if err := v.role.put(all, role); err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	now := v.now()
	all["iat"], all["exp"] = now.Unix(), now.Add(ttl).Unix()
	if v.issuer != "" {
		all["iss"] = v.issuer
	}
	if v.audience != "" {
		all["aud"] = v.audience
	}
	token, err := gojwt.NewWithClaims(gojwt.SigningMethodHS256, gojwt.MapClaims(all)).SignedString(v.secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	if _, err := v.Verify(token); err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}
