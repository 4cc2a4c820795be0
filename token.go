package rowtide

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rowtide/rowtide/authz/jwt"
)

// Token signs a token that a service of this configuration takes (JWTSecret, JWTIssuer,
// JWTAudience, RoleClaim), for development and tests. Claims is a JSON object with the others,
// or empty.
func Token(cfg Config, role string, claims json.RawMessage, life time.Duration) (string, error) {
	cfg = cfg.withDefaults()
	cfg.Roles = []string{role}
	v, err := cfg.verifier()
	if err != nil {
		return "", err
	}
	var object map[string]json.RawMessage
	if len(claims) > 0 && json.Unmarshal(claims, &object) != nil {
		return "", errors.New(`--claims is no JSON object: write it like {"sub":"ana"}`)
	}
	return v.Sign(role, claims, life)
}

func (c Config) verifier() (*jwt.Verifier, error) {
	if c.JWTSecret != "" && len(c.JWTSecret) < minSecret {
		return nil, fmt.Errorf("--jwt-secret has %d bytes: give it at least %d, such as the output of: openssl rand -hex 32", len(c.JWTSecret), minSecret)
	}
	settings := make([]jwt.ClaimSetting, 0, len(c.ClaimSettings))
	for _, s := range c.ClaimSettings {
		name, claim, ok := strings.Cut(s, "=")
		if !ok || name == "" || claim == "" {
			return nil, fmt.Errorf("--claim-setting %q names no claim: write setting and claim, such as app.tenant=tenant.id", s)
		}
		settings = append(settings, jwt.ClaimSetting{Setting: name, Claim: claim})
	}
	var public []byte
	if c.JWTPublicKey != "" {
		var err error
		if public, err = os.ReadFile(c.JWTPublicKey); err != nil {
			return nil, fmt.Errorf("--jwt-public-key: %w: name a file with a public key in PEM", err)
		}
	}
	return jwt.New(jwt.Config{
		Secret: []byte(c.JWTSecret), PublicKeys: public, JWKSURL: c.JWKSURL, JWKSPrivate: c.JWKSPrivate, Logger: c.Logger,
		Issuer: c.JWTIssuer, Audience: c.JWTAudience,
		RoleClaim: c.RoleClaim, Roles: c.roles(), AnonRole: c.AnonRole, ClaimSettings: settings,
	})
}
