package jwt_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/jwt"
	"github.com/rowtide/rowtide/schema"
)

const secret = "0123456789abcdef0123456789abcdef"

// now is the time of all tests.
var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func config() jwt.Config {
	return jwt.Config{
		Secret: []byte(secret), Roles: []string{"web_anon", "web_user", `odd "role'`}, AnonRole: "web_anon",
		Now: func() time.Time { return now },
	}
}

func verifier(t testing.TB, change func(*jwt.Config)) *jwt.Verifier {
	t.Helper()
	c := config()
	if change != nil {
		change(&c)
	}
	v, err := jwt.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// token signs a header and claims as they are, however wrong they may be.
func token(t testing.TB, header, claims string) string {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(header)) + "." + enc([]byte(claims))
	method := gojwt.SigningMethodHS256
	if strings.Contains(header, "HS512") {
		method = gojwt.SigningMethodHS512
	}
	sig, err := method.Sign(text, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + enc(sig)
}

func good(extra string) string {
	return fmt.Sprintf(`{"role":"web_user","sub":"u1","exp":%d%s}`, now.Add(time.Hour).Unix(), extra)
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

// refused checks that a token gives no principal, and that the error is fit for a client.
func refused(t *testing.T, v *jwt.Verifier, tok string, code schema.Code, text string) {
	t.Helper()
	p, err := v.Verify(tok)
	if err == nil {
		t.Fatalf("verified, as %+v", p)
	}
	var se *schema.Error
	if !errors.As(err, &se) {
		t.Fatalf("error %T is not for clients: %v", err, err)
	}
	if se.Code != code || !strings.Contains(se.Message, text) {
		t.Errorf("got %q, want %s with %q", se, code, text)
	}
	for _, inside := range []string{"web_", secret, "golang", "json:", "base64", "signature"} {
		if strings.Contains(se.Message, inside) {
			t.Errorf("message tells %q: %s", inside, se.Message)
		}
	}
}

func TestVerifyGivesRoleSubjectSettingsAndEnd(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *jwt.Config) {
		c.ClaimSettings = []jwt.ClaimSetting{{Setting: "app.tenant", Claim: "app.tenant"}, {Setting: "app.ids", Claim: "ids"}, {Setting: "app.none", Claim: "x.y"}}
	})
	claims := `{"z":1.50,"big":12345678901234567890,"exp":` + fmt.Sprint(now.Add(time.Hour).Unix()) + `,"sub":"u<1>","role":"web_user", "app":{"tenant":"a'c"},"ids":[1, 2]}`
	p, err := v.Verify(token(t, hs256, claims))
	if err != nil {
		t.Fatal(err)
	}
	want := []authz.Setting{
		{Name: "request.jwt.claims", Value: `{"app":{"tenant":"a'c"},"big":12345678901234567890,"exp":` + fmt.Sprint(now.Add(time.Hour).Unix()) +
			`,"ids":[1,2],"role":"web_user","sub":"u<1>","z":1.50}`},
		{Name: "app.tenant", Value: "a'c"},
		{Name: "app.ids", Value: "[1,2]"},
		{Name: "app.none", Value: ""},
	}
	if len(p.Settings) != len(want) {
		t.Fatalf("settings %q", p.Settings)
	}
	for i := range want {
		if p.Settings[i] != want[i] {
			t.Errorf("setting %d is %q, want %q", i, p.Settings[i], want[i])
		}
	}
	if p.Role != "web_user" || p.Subject != "u<1>" {
		t.Errorf("principal %+v", p)
	}
	if d := p.Expires.Sub(now.Add(time.Hour)); d < 0 || d > time.Minute {
		t.Errorf("expires %s after exp", d)
	}
}

func TestAnonymousHasTheSameSettingsAsEverybody(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *jwt.Config) { c.ClaimSettings = []jwt.ClaimSetting{{Setting: "app.sub", Claim: "sub"}} })
	anon, err := v.Anonymous()
	if err != nil {
		t.Fatal(err)
	}
	user, err := v.Verify(token(t, hs256, good("")))
	if err != nil {
		t.Fatal(err)
	}
	if anon.Role != "web_anon" || !anon.Expires.IsZero() || anon.Settings[0].Value != `{"role":"web_anon"}` || anon.Settings[1].Value != "" {
		t.Errorf("anonymous is %+v", anon)
	}
	for i := range user.Settings {
		if user.Settings[i].Name != anon.Settings[i].Name {
			t.Errorf("setting %d: %q and %q", i, user.Settings[i].Name, anon.Settings[i].Name)
		}
	}
	none := verifier(t, func(c *jwt.Config) { c.AnonRole = "" })
	if p, err := none.Anonymous(); err == nil {
		t.Errorf("anonymous without a role for it: %+v", p)
	}
	refused(t, verifier(t, nil), "", schema.Unauthenticated, "required")
}

// A key is picked by the algorithms of its own type; were another picked, the library would refuse it for
// its type. (TestAnAlgorithmOfAnotherKeyIsRefused holds the picking alone.)
//
// Covers S20, S22.
func TestOnlyTheKeysOwnAlgorithmsVerify(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	if _, err := v.Verify(token(t, `{"alg":"HS512"}`, good(""))); err != nil {
		t.Errorf("HS512: %v", err)
	}
	body := token(t, hs256, good(""))
	payload := strings.Split(body, ".")[1]
	enc := base64.RawURLEncoding.EncodeToString
	for _, alg := range []string{"none", "None", "NoNe", "NONE", "", "hs256", "HS256 ", "RS256", "PS256", "ES256", "EdDSA"} {
		head := enc([]byte(`{"alg":"` + alg + `"}`))
		for _, sig := range []string{"", enc(make([]byte, 64)), strings.Split(body, ".")[2]} {
			refused(t, v, head+"."+payload+"."+sig, schema.Unauthenticated, "not valid")
		}
	}
	// A public key is no secret: a verifier that holds one must not take it for one of HS256.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)})
	text := enc([]byte(hs256)) + "." + payload
	sig, err := gojwt.SigningMethodHS256.Sign(text, public)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, v, text+"."+enc(sig), schema.Unauthenticated, "not valid")
	// The attacker's own key in the header is not looked at, neither are extensions.
	own := fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, enc(key.N.Bytes()), enc(big.NewInt(int64(key.E)).Bytes()))
	jwk := `{"alg":"RS256","jku":"https://evil.example/k","jwk":` + own + `,"x5u":"https://evil.example"}`
	text = enc([]byte(jwk)) + "." + payload
	digest := crypto.SHA256.New()
	digest.Write([]byte(text))
	rs, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, v, text+"."+enc(rs), schema.Unauthenticated, "not valid")
	refused(t, v, token(t, `{"alg":"HS256","crit":["b64"],"b64":false}`, good("")), schema.Unauthenticated, "not valid")
	refused(t, verifier(t, func(c *jwt.Config) { c.Secret = nil }), body, schema.Unauthenticated, "not valid")
}

// Covers S21.
func TestKeyIDIsAShortStringAndNothingMore(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	for _, kid := range []string{`"../../../../dev/null"`, `"' OR 1=1 --"`, `"|/bin/sh"`} {
		if _, err := v.Verify(token(t, `{"alg":"HS256","kid":`+kid+`}`, good(""))); err != nil {
			t.Errorf("kid %s, well signed: %v", kid, err)
		}
	}
	for _, kid := range []string{`"` + strings.Repeat("k", 257) + `"`, `1`, `null`, `["a"]`, `{"a":1}`} {
		refused(t, v, token(t, `{"alg":"HS256","kid":`+kid+`}`, good("")), schema.Unauthenticated, "not valid")
	}
}

// Covers S25.
func TestLongTokensAreRefusedBeforeAnyWork(t *testing.T) {
	v := verifier(t, nil)
	for _, tok := range []string{strings.Repeat(".", 1_000_000), strings.Repeat("a", 1_000_000), token(t, hs256, good(`,"x":"`+strings.Repeat("y", 16<<10)+`"`))} {
		refused(t, v, tok, schema.Unauthenticated, "too long")
		if n := testing.AllocsPerRun(10, func() { _, _ = v.Verify(tok) }); n > 3 {
			t.Errorf("%.0f allocations for a token of %d bytes", n, len(tok))
		}
	}
}

// Covers S26.
func TestRegisteredClaimsAreStrict(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *jwt.Config) { c.Issuer, c.Audience = "https://iss", "rowtide" })
	rest := `,"iss":"https://iss","aud":"rowtide","role":"web_user"`
	at := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	tests := map[string]struct{ claims, want string }{
		"good":                   {`{"exp":` + at(time.Hour) + rest + `}`, ""},
		"audience in a list":     {`{"exp":` + at(time.Hour) + `,"iss":"https://iss","aud":["x","rowtide"],"role":"web_user"}`, ""},
		"fraction":               {`{"exp":` + at(time.Hour) + `.5` + rest + `}`, ""},
		"within the leeway":      {`{"exp":` + at(-29*time.Second) + rest + `}`, ""},
		"expired":                {`{"exp":` + at(-31*time.Second) + rest + `}`, "expired"},
		"long expired":           {`{"exp":0` + rest + `}`, "expired"},
		"no exp":                 {`{"sub":"a"` + rest + `}`, "not valid"},
		"exp null":               {`{"exp":null` + rest + `}`, "not valid"},
		"exp a string":           {`{"exp":"` + at(time.Hour) + `"` + rest + `}`, "not valid"},
		"exp a list":             {`{"exp":[` + at(time.Hour) + `]` + rest + `}`, "not valid"},
		"exp true":               {`{"exp":true` + rest + `}`, "not valid"},
		"exp negative":           {`{"exp":-1` + rest + `}`, "not valid"},
		"exp beyond all numbers": {`{"exp":1e400` + rest + `}`, "not valid"},
		"exp beyond all times":   {`{"exp":9223372036854775807` + rest + `}`, "not valid"},
		"nbf in the future":      {`{"exp":` + at(time.Hour) + `,"nbf":` + at(31*time.Second) + rest + `}`, "not valid yet"},
		"nbf a string":           {`{"exp":` + at(time.Hour) + `,"nbf":"0"` + rest + `}`, "not valid"},
		"nbf null":               {`{"exp":` + at(time.Hour) + `,"nbf":null` + rest + `}`, "not valid"},
		"iat in the future":      {`{"exp":` + at(time.Hour) + `,"iat":` + at(time.Minute) + rest + `}`, "not valid yet"},
		"iat a string":           {`{"exp":` + at(time.Hour) + `,"iat":"0"` + rest + `}`, "not valid"},
		"other issuer":           {`{"exp":` + at(time.Hour) + `,"iss":"https://iss/","aud":"rowtide","role":"web_user"}`, "not valid"},
		"no issuer":              {`{"exp":` + at(time.Hour) + `,"aud":"rowtide","role":"web_user"}`, "not valid"},
		"issuer a list":          {`{"exp":` + at(time.Hour) + `,"iss":["https://iss"],"aud":"rowtide","role":"web_user"}`, "not valid"},
		"other audience":         {`{"exp":` + at(time.Hour) + `,"iss":"https://iss","aud":"rowtide2","role":"web_user"}`, "not valid"},
		"no audience":            {`{"exp":` + at(time.Hour) + `,"iss":"https://iss","role":"web_user"}`, "not valid"},
		"audience of mixed type": {`{"exp":` + at(time.Hour) + `,"iss":"https://iss","aud":["rowtide",1],"role":"web_user"}`, "not valid"},
		"audience empty":         {`{"exp":` + at(time.Hour) + `,"iss":"https://iss","aud":[],"role":"web_user"}`, "not valid"},
		"expired for others":     {`{"exp":0,"iss":"https://iss","aud":"other","role":"web_user"}`, "not valid"},
	}
	for name, test := range tests {
		tok := token(t, hs256, test.claims)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.want != "" {
				refused(t, v, tok, schema.Unauthenticated, test.want)
				return
			}
			if _, err := v.Verify(tok); err != nil {
				t.Error(err)
			}
		})
	}
	// Who has not got the key is not told that the token has expired.
	stale := token(t, hs256, `{"exp":0`+rest+`}`)
	_, err := v.Verify(stale[:len(stale)-4] + "AAAA")
	if err == nil || strings.Contains(err.Error(), "expired") {
		t.Errorf("wrong signature: %v", err)
	}
}

// Covers S32.
func TestRoleComesOutOfTheAllowList(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	exp := fmt.Sprint(now.Add(time.Hour).Unix())
	for _, role := range []string{
		`"postgres"`, `"pg_read_all_data"`, `"none"`, `"NONE"`, `""`, `"web_user "`, `"WEB_USER"`, `"web_user;reset role"`, `"\"web_user\""`,
		`null`, `1`, `true`, `["web_user"]`, `{"web_user":1}`,
	} {
		refused(t, v, token(t, hs256, `{"exp":`+exp+`,"role":`+role+`}`), schema.Forbidden, "role")
	}
	refused(t, v, token(t, hs256, `{"exp":`+exp+`,"user_metadata":{"role":"web_user"}}`), schema.Forbidden, "role")
	p, err := v.Verify(token(t, hs256, `{"exp":`+exp+`,"role":"odd \"role'"}`))
	if err != nil || p.Role != `odd "role'` {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range [][]string{nil, {""}, {"none"}, {strings.Repeat("r", 64)}, {"a\x00b"}} {
		c := config()
		c.Roles, c.AnonRole = bad, ""
		if _, err := jwt.New(c); err == nil {
			t.Errorf("roles %q are taken", bad)
		}
	}
}

func TestRoleClaimIsAPath(t *testing.T) {
	t.Parallel()
	exp := fmt.Sprint(now.Add(time.Hour).Unix())
	tests := []struct{ path, claims string }{
		{"app_metadata.role", `"app_metadata":{"role":"web_user"}`},
		{`"https://x.example/role"`, `"https://x.example/role":"web_user"`},
		{`a."b.c".d`, `"a":{"b.c":{"d":"web_user"}}`},
	}
	for _, test := range tests {
		v := verifier(t, func(c *jwt.Config) { c.RoleClaim = test.path })
		if _, err := v.Verify(token(t, hs256, `{"exp":`+exp+`,`+test.claims+`}`)); err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
		// A key that only looks like the path is another claim.
		lookalike, err := json.Marshal(test.path)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, v, token(t, hs256, `{"exp":`+exp+`,`+string(lookalike)+`:"web_user"}`), schema.Forbidden, "role")
	}
	for _, bad := range []string{".", "a.", ".a", "a..b", `"a`, `"a"b`, `""`} {
		c := config()
		c.RoleClaim = bad
		if _, err := jwt.New(c); err == nil {
			t.Errorf("path %q is taken", bad)
		}
	}
}

// Covers S33.
func TestClaimsThatPostgresCannotReadAreRefused(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	tests := map[string]string{
		"NUL in a value":            `,"x":"a\u0000b"`,
		"NUL in a key":              `,"a\u0000b":1`,
		"NUL deep inside":           `,"x":[{"y":["\u0000"]}]`,
		"lone surrogate":            `,"x":"\ud800"`,
		"not UTF-8":                 ",\"x\":\"\xff\"",
		"large":                     `,"x":"` + strings.Repeat("a", 8<<10) + `"`,
		"large once written by us":  `,"x":"` + strings.Repeat("\u2028", 2000) + `"`,
		"deep":                      `,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40),
		"deeper than most decoders": `,"x":` + strings.Repeat("[", 3500) + strings.Repeat("]", 3500),
		"subject is no name":        `,"sub":{"a":1}`,
	}
	for name, extra := range tests {
		tok := token(t, hs256, good(extra))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, v, tok, schema.Unauthenticated, "")
		})
	}
	for _, claims := range []string{"null", "[]", `"a"`, "1", "", "{", `{"exp":1}x`, `{"exp":1}{}`} {
		refused(t, v, token(t, hs256, claims), schema.Unauthenticated, "not")
	}
	hostile := `' OR true -- ; \" ${x} <script>`
	text, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Verify(token(t, hs256, good(`,"sub":`+string(text))))
	if err != nil || p.Subject != hostile {
		t.Fatalf("%+v, %v", p, err)
	}
	var back map[string]any
	if err := json.Unmarshal([]byte(p.Settings[0].Value), &back); err != nil || back["sub"] != hostile {
		t.Errorf("claims %s: %v", p.Settings[0].Value, err)
	}
}

func TestNumericSubjectsStayApart(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	one, err := v.Verify(token(t, hs256, good(`,"sub":9007199254740993`)))
	if err != nil {
		t.Fatal(err)
	}
	two, err := v.Verify(token(t, hs256, good(`,"sub":9007199254740992`)))
	if err != nil {
		t.Fatal(err)
	}
	if one.Subject == two.Subject || one.Key() == two.Key() {
		t.Errorf("%q and %q", one.Subject, two.Subject)
	}
}

// Covers S34.
func TestOnlyCustomSettingsCanBeMade(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"role", "search_path", "row_security", "", "app.", ".x", "a b.c", "app.x;y", `app."x"`, "request.jwt.claims", "Request.JWT.claims"} {
		c := config()
		c.ClaimSettings = []jwt.ClaimSetting{{Setting: name, Claim: "sub"}}
		if _, err := jwt.New(c); err == nil {
			t.Errorf("setting %q is taken", name)
		}
	}
	c := config()
	c.ClaimSettings = []jwt.ClaimSetting{{Setting: "app.a", Claim: "sub"}, {Setting: "APP.a", Claim: "role"}}
	if _, err := jwt.New(c); err == nil {
		t.Error("one setting is taken twice")
	}
	// A token cannot name settings.
	v := verifier(t, nil)
	p, err := v.Verify(token(t, hs256, good(`,"row_security":"off","settings":{"role":"postgres"}`)))
	if err != nil || len(p.Settings) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*jwt.Config){
		"31; use 32":        func(c *jwt.Config) { c.Secret = c.Secret[:31] },
		"not in the allow":  func(c *jwt.Config) { c.AnonRole = "other" },
		"use 1m0s or less":  func(c *jwt.Config) { c.Leeway = 2 * time.Minute },
		"allow-list is emp": func(c *jwt.Config) { c.Roles = nil },
	}
	for want, change := range tests {
		c := config()
		change(&c)
		want, _, _ = strings.Cut(want, ";")
		if _, err := jwt.New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestSignedTokensVerify(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *jwt.Config) {
		c.Issuer, c.Audience, c.RoleClaim = "me", "you", "app.role"
	})
	tok, err := v.Sign("web_user", json.RawMessage(`{"sub":"u1","app":{"team":7},"exp":1}`), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Verify(tok)
	if err != nil || p.Subject != "u1" || !strings.Contains(p.Settings[0].Value, `"app":{"role":"web_user","team":7}`) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{`[]`, `{"app":1}`, `{`} {
		if _, err := v.Sign("web_user", json.RawMessage(bad), time.Hour); err == nil {
			t.Errorf("claims %s are signed", bad)
		}
	}
	if _, err := v.Sign("postgres", nil, time.Hour); err == nil {
		t.Error("a role outside the allow-list is signed")
	}
}

func FuzzVerify(f *testing.F) {
	v := verifier(f, func(c *jwt.Config) {
		c.ClaimSettings = []jwt.ClaimSetting{{Setting: "app.x", Claim: "a.b"}}
	})
	f.Add(hs256, good(""))
	f.Add(`{"alg":"none"}`, `{"exp":1}`)
	f.Add(`{"alg":"HS512","kid":"a"}`, good(`,"a":{"b":[1e400,"\ud83d\ude00",null]}`))
	f.Add(hs256, `null`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		for _, tok := range []string{header, claims, header + "." + claims + ".", token(t, header, claims)} {
			p, err := v.Verify(tok)
			if err != nil {
				var se *schema.Error
				if !errors.As(err, &se) || p != nil {
					t.Fatalf("%T %v, %v", err, err, p)
				}
				continue
			}
			if p.Role != "web_user" && p.Role != "web_anon" && p.Role != `odd "role'` {
				t.Fatalf("role %q", p.Role)
			}
			if len(p.Settings) != 2 || !json.Valid([]byte(p.Settings[0].Value)) {
				t.Fatalf("settings %q", p.Settings)
			}
			for _, s := range p.Settings {
				if strings.ContainsRune(s.Value, 0) || len(s.Value) > 8<<10 {
					t.Fatalf("setting %q", s)
				}
			}
		}
	})
}
