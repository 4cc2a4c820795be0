// Package jwt turns a token into an authz.Principal.
//
// It guarantees that a Principal comes of a token that was signed with the configured key by an
// algorithm that belongs to that key, that has not expired, that is meant for this service, and
// whose role stands in the allow-list. What policies will read of it is written anew by this
// package: no byte of a token reaches Postgres as it came.
//
// It does not know of revocation, and it does not watch the clock after Verify returns: who
// holds a Principal looks at Expires.
package jwt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

const (
	// maxToken bounds a token before anything looks into it: splitting, base64 and JSON all
	// cost in proportion (CVE-2025-30204 and its family).
	maxToken = 16 << 10
	// maxClaims bounds the claims, as they came and as we write them: they travel to Postgres
	// with every judgement.
	maxClaims = 8 << 10
	// maxDepth bounds the nesting of claims. PostgreSQL's own JSON parser recurses.
	maxDepth = 32
	// maxKeyID bounds the header kid (S21).
	maxKeyID = 256
	// maxLeeway is what clocks may differ by.
	maxLeeway = time.Minute
	// minSecret is the shortest key of HS256 (RFC 7518, section 3.2: a key of the size of the
	// hash or larger).
	minSecret = 32
	// maxRoleName is NAMEDATALEN - 1: PostgreSQL knows no longer name.
	maxRoleName = 63
)

// ClaimsSetting is the setting that holds all claims as JSON, as in PostgREST and Supabase.
const ClaimsSetting = "request.jwt.claims"

// Config is what a Verifier trusts.
type Config struct {
	// Secret is the key of HS256, HS384 and HS512, at least 32 bytes. Without any key every token
	// is refused, and only Anonymous gives a principal.
	Secret []byte
	// PublicKeys are public keys or certificates, in PEM, of RS, PS and ES in 256, 384 and 512,
	// and EdDSA. Default to none.
	PublicKeys []byte
	// JWKSURL is where an issuer publishes keys of the same kinds (RFC 7517), by https, or by
	// http on this machine. Redirects lead nowhere but to the same host. Defaults to none.
	JWKSURL string
	// JWKSPrivate lets the name in JWKSURL lead to a private address. Defaults to refusing it.
	JWKSPrivate bool
	// Issuer is the iss that a token must have. Defaults to none: iss is not looked at.
	Issuer string
	// Audience is what a token's aud must be or contain. Defaults to none: aud is not looked at.
	Audience string
	// RoleClaim is the path of the claim that names the role: keys with dots between, a key
	// in double quotes where it has a dot of its own. Defaults to "role".
	RoleClaim string
	// Roles is the allow-list.
	Roles []string
	// AnonRole is the role of those who bring no token, out of Roles. Defaults to none: they
	// are refused.
	AnonRole string
	// ClaimSettings are made in every principal, in this order, behind request.jwt.claims.
	ClaimSettings []ClaimSetting
	// Leeway is how far the issuer's clock may be from ours, at most a minute. Defaults to 30 s.
	Leeway time.Duration
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// Logger is told what is wrong with the issuer's keys. Defaults to slog.Default().
	Logger *slog.Logger

	tls        *tls.Config   // of tests
	fetchLeast time.Duration // likewise
}

// A ClaimSetting makes one claim a setting that policies can read.
type ClaimSetting struct {
	// Setting is the name, with a dot, such as "app.tenant_id".
	Setting string
	// Claim is the path of the claim, as in RoleClaim.
	Claim string
}

// A Verifier makes principals of tokens. It may be used by many goroutines.
type Verifier struct {
	parser    *gojwt.Parser
	validator *gojwt.Validator
	// static are the keys of the configuration, remote those of an issuer, nil for none.
	static []key
	remote *remote

	secret   []byte
	issuer   string
	audience string
	role     path
	roles    []string
	anon     string
	settings []setting
	leeway   time.Duration
	now      func() time.Time
}

type setting struct {
	name string
	path path
}

// New checks the configuration. Its errors are for whoever starts the service.
func New(c Config) (*Verifier, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	v := &Verifier{
		secret: slices.Clone(c.Secret), issuer: c.Issuer, audience: c.Audience,
		roles: slices.Clone(c.Roles), anon: c.AnonRole, leeway: c.Leeway, now: c.Now,
	}
	if v.leeway == 0 {
		v.leeway = maxLeeway / 2
	}
	if v.now == nil {
		v.now = time.Now
	}
	if c.RoleClaim == "" {
		c.RoleClaim = "role"
	}
	var err error
	if v.role, err = parsePath(c.RoleClaim); err != nil {
		return nil, fmt.Errorf("read role claim: %w", err)
	}
	if v.settings, err = readSettings(c.ClaimSettings); err != nil {
		return nil, err
	}
	if err := v.readKeys(c); err != nil {
		return nil, err
	}
	// The signature comes first and claims are looked at only behind it, so the parser leaves
	// them alone.
	v.parser = gojwt.NewParser(
		gojwt.WithValidMethods(methods()),
		gojwt.WithStrictDecoding(),
		gojwt.WithoutClaimsValidation(),
	)
	v.validator = v.newValidator()
	return v, nil
}

func (v *Verifier) readKeys(c Config) (err error) {
	if len(c.PublicKeys) > 0 {
		if v.static, err = readPEM(c.PublicKeys); err != nil {
			return err
		}
	}
	if len(c.Secret) > 0 {
		k, err := newKey("", slices.Clone(c.Secret), "")
		if err != nil {
			return err
		}
		v.static = append(v.static, k)
	}
	if c.JWKSURL != "" {
		v.remote, err = newRemote(c)
	}
	return err
}

func (v *Verifier) newValidator() *gojwt.Validator {
	options := []gojwt.ParserOption{
		gojwt.WithExpirationRequired(),
		gojwt.WithIssuedAt(),
		gojwt.WithLeeway(v.leeway),
		gojwt.WithTimeFunc(v.now),
	}
	if v.issuer != "" {
		options = append(options, gojwt.WithIssuer(v.issuer))
	}
	if v.audience != "" {
		options = append(options, gojwt.WithAudience(v.audience))
	}
	return gojwt.NewValidator(options...)
}

// Verify gives the principal of a token. Its errors are *schema.Error, Unauthenticated or
// Forbidden, and tell nothing that the bearer does not know.
func (v *Verifier) Verify(token string) (*authz.Principal, error) {
	switch {
	case token == "":
		return nil, unauthenticated("a token is required")
	case len(token) > maxToken:
		return nil, unauthenticated("the token is too long")
	}
	raw := &rawClaims{}
	if _, err := v.parser.ParseWithClaims(token, raw, v.verification); err != nil {
		return nil, unauthenticated("the token is not valid")
	}
	claims, problem := readClaims(raw.json)
	if problem != nil {
		return nil, problem
	}
	registered := registeredClaims{claims}
	if err := v.validator.Validate(registered); err != nil {
		return nil, refusal(err)
	}
	exp, err := registered.GetExpirationTime()
	if err != nil {
		return nil, refusal(err)
	}
	role, ok := v.role.find(claims).(string)
	if !ok || !slices.Contains(v.roles, role) {
		return nil, &schema.Error{Code: schema.Forbidden, Message: "the token's role is not allowed here"}
	}
	return v.principal(role, claims, exp.Add(v.leeway))
}

// Anonymous gives the principal of those who bring no token.
func (v *Verifier) Anonymous() (*authz.Principal, error) {
	if v.anon == "" {
		return nil, unauthenticated("a token is required")
	}
	return v.principal(v.anon, map[string]any{"role": v.anon}, time.Time{})
}

// principal makes the settings, the same names in the same order for everybody, so that none
// sees a value that another left.
func (v *Verifier) principal(role string, claims map[string]any, expires time.Time) (*authz.Principal, error) {
	all, err := compact(claims)
	if err != nil {
		return nil, unauthenticated("the token's claims cannot be read")
	}
	if len(all) > maxClaims {
		return nil, unauthenticated("the token's claims are too large")
	}
	subject, err := subjectOf(claims)
	if err != nil {
		return nil, refusal(err)
	}
	settings := make([]authz.Setting, 0, 1+len(v.settings))
	settings = append(settings, authz.Setting{Name: ClaimsSetting, Value: all})
	for _, s := range v.settings {
		value, err := settingValue(s.path.find(claims))
		if err != nil {
			return nil, unauthenticated("the token's claims cannot be read")
		}
		settings = append(settings, authz.Setting{Name: s.name, Value: value})
	}
	p := authz.NewPrincipal(role, subject, settings, expires)
	registered := registeredClaims{claims}
	if issued, err := registered.GetIssuedAt(); err == nil && issued != nil {
		p.Issued = issued.Time
	}
	if p.TokenID, err = registered.text("jti"); err != nil {
		return nil, refusal(err)
	}
	return p, nil
}

// Run keeps an issuer's published keys fresh until ctx ends; without any it only waits. A Verifier
// that does not run reads them when a token asks for one.
func (v *Verifier) Run(ctx context.Context) error {
	if v.remote == nil {
		<-ctx.Done()
		return nil
	}
	v.remote.run(ctx)
	return nil
}

func unauthenticated(message string) *schema.Error {
	return &schema.Error{Code: schema.Unauthenticated, Message: message}
}

// refusal says what the bearer of a well signed token may know: that it is too old or too new.
func refusal(err error) *schema.Error {
	only := func(target error) bool {
		for _, other := range []error{
			gojwt.ErrTokenExpired, gojwt.ErrTokenNotValidYet, gojwt.ErrTokenUsedBeforeIssued, gojwt.ErrTokenInvalidAudience,
			gojwt.ErrTokenInvalidIssuer, gojwt.ErrTokenRequiredClaimMissing, gojwt.ErrInvalidType,
		} {
			if errors.Is(err, other) != (other == target) { //nolint:errorlint // two sentinels are compared with each other
				return false
			}
		}
		return true
	}
	switch {
	case only(gojwt.ErrTokenExpired):
		return &schema.Error{Code: schema.Unauthenticated, Reason: schema.Expired, Message: "the token has expired"}
	case only(gojwt.ErrTokenNotValidYet), only(gojwt.ErrTokenUsedBeforeIssued):
		return unauthenticated("the token is not valid yet")
	}
	return unauthenticated("the token is not valid")
}

func (c *Config) check() error {
	switch {
	case len(c.Secret) > 0 && len(c.Secret) < minSecret:
		return fmt.Errorf("check secret: it has %d bytes; use %d or more, such as those of: openssl rand -hex 32", len(c.Secret), minSecret)
	case len(c.Roles) == 0:
		return errors.New("check roles: the allow-list is empty; name the roles that tokens may use")
	case c.AnonRole != "" && !slices.Contains(c.Roles, c.AnonRole):
		return fmt.Errorf("check anonymous role: %q is not in the allow-list of roles; add it there", c.AnonRole)
	case c.Leeway < 0 || c.Leeway > maxLeeway:
		return fmt.Errorf("check leeway: %s; use %s or less", c.Leeway, maxLeeway)
	}
	for _, r := range c.Roles {
		// For PostgreSQL SET ROLE none means the login itself.
		if r == "" || r == "none" || len(r) > maxRoleName || strings.ContainsRune(r, 0) {
			return fmt.Errorf("check roles: %q cannot be the name of a role; remove it", r)
		}
	}
	return nil
}
