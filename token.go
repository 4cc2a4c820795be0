package rowtide

import (
	"encoding/json"
	"fmt"
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
	return v.Sign(role, claims, life)
}

func (c Config) verifier() (*jwt.Verifier, error) {
	settings := make([]jwt.ClaimSetting, 0, len(c.ClaimSettings))
	for _, s := range c.ClaimSettings {
		name, claim, ok := strings.Cut(s, "=")
		if !ok || name == "" || claim == "" {
			return nil, fmt.Errorf("--claim-setting %q has no setting and claim: write it like app.tenant=tenant.id", s)
		}
		settings = append(settings, jwt.ClaimSetting{Setting: name, Claim: claim})
	}
	return jwt.New(jwt.Config{
		Secret: []byte(c.JWTSecret), Issuer: c.JWTIssuer, Audience: c.JWTAudience,
		RoleClaim: c.RoleClaim, Roles: c.roles(), AnonRole: c.AnonRole, ClaimSettings: settings,
	})
}
