package jwt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/rowtide/rowtide/authz/jwt"
	"github.com/rowtide/rowtide/schema"
)

// A pair is a key of an issuer.
type pair struct {
	private crypto.Signer
	alg     string
}

// pairs are one key of each kind; making RSA keys takes a while.
var pairs = sync.OnceValue(func() map[string]pair {
	out := map[string]pair{}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		out[alg] = pair{rsaKey, alg}
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		out[alg] = pair{k, alg}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	out["EdDSA"] = pair{ed, "EdDSA"}
	return out
})

// sign makes a token with whatever header fields are given.
func (p pair) sign(t testing.TB, alg, claims string, header map[string]any) string {
	t.Helper()
	h := map[string]any{"alg": alg, "typ": "JWT"}
	for k, v := range header {
		h[k] = v
	}
	head, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	text := enc(head) + "." + enc([]byte(claims))
	sig, err := gojwt.GetSigningMethod(alg).Sign(text, p.private)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + enc(sig)
}

func (p pair) pem(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(p.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// jwk is the key as an issuer publishes it, with further members.
func (p pair) jwk(kid string, more map[string]any) map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	out := map[string]any{"kid": kid, "use": "sig"}
	switch k := p.private.Public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", enc(k.N.Bytes()), enc(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		size := len(point) / 2
		out["kty"], out["crv"], out["x"], out["y"] = "EC", k.Params().Name, enc(point[1:1+size]), enc(point[1+size:])
	case ed25519.PublicKey:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", enc(k)
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

func jwks(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEveryAlgorithmVerifiesByItsPublicKey(t *testing.T) {
	t.Parallel()
	for alg, p := range pairs() {
		v := verifier(t, func(c *jwt.Config) { c.Secret, c.PublicKeys = nil, p.pem(t) })
		if who, err := v.Verify(p.sign(t, alg, good(`,"jti":"t1"`), map[string]any{"kid": "any"})); err != nil || who.Subject != "u1" || who.TokenID != "t1" {
			t.Errorf("%s: %v, %v", alg, who, err)
		}
		refused(t, v, token(t, hs256, good("")), schema.Unauthenticated, "not valid")
	}
}

// Covers S20.
func TestAnAlgorithmOfAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	rs, es := pairs()["RS256"], pairs()["ES256"]
	v := verifier(t, func(c *jwt.Config) { c.PublicKeys = append(rs.pem(t), es.pem(t)...) })
	enc := base64.RawURLEncoding.EncodeToString
	claims := enc([]byte(good("")))
	for name, secret := range map[string][]byte{"PEM": rs.pem(t), "trimmed": []byte(strings.TrimSpace(string(rs.pem(t)))), "DER": der(t, rs)} {
		text := enc([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + claims
		sig, err := gojwt.SigningMethodHS256.Sign(text, secret)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("HS256 by the public key as "+name, func(t *testing.T) {
			t.Parallel()
			refused(t, v, text+"."+enc(sig), schema.Unauthenticated, "not valid")
		})
	}
	// Psychic signatures: r and s zero (CVE-2022-21449).
	refused(t, v, enc([]byte(`{"alg":"ES256"}`))+"."+claims+"."+enc(make([]byte, 64)), schema.Unauthenticated, "not valid")
	for _, alg := range []string{"none", "NoNe", "NONE", "", "ES256K", "HS1", "RS1"} {
		refused(t, v, enc(fmt.Appendf(nil, `{"alg":%q}`, alg))+"."+claims+".", schema.Unauthenticated, "not valid")
	}
	// A key that its issuer made for one algorithm is not for another of its type.
	i := newIssuer(t, publish(jwks(t, rs.jwk("k", map[string]any{"alg": "RS256"}))))
	bound := i.verifier(t, time.Hour)
	if _, err := bound.Verify(rs.sign(t, "RS256", good(""), map[string]any{"kid": "k"})); err != nil {
		t.Error(err)
	}
	refused(t, bound, rs.sign(t, "PS256", good(""), map[string]any{"kid": "k"}), schema.Unauthenticated, "not valid")
	if n, err := jwt.ParseSet(jwks(t, rs.jwk("a", map[string]any{"alg": "HS256"}), rs.jwk("b", map[string]any{"alg": "RS256"}))); n != 1 || err != nil {
		t.Errorf("%d keys, %v: want the one whose alg is of its type", n, err)
	}
}

func der(t testing.TB, p pair) []byte {
	t.Helper()
	out, err := x509.MarshalPKIXPublicKey(p.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Covers S20.
func TestWeakPrivateAndSymmetricKeysAreNotTaken(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small := pair{weak, "RS256"}
	if _, err := jwt.New(func() jwt.Config { c := config(); c.PublicKeys = small.pem(t); return c }()); err == nil || !strings.Contains(err.Error(), "1024 bits is too weak") {
		t.Errorf("an RSA key of 1024 bits: %v", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(pairs()["ES256"].private)
	if err != nil {
		t.Fatal(err)
	}
	c := config()
	c.PublicKeys = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if _, err := jwt.New(c); err == nil || !strings.Contains(err.Error(), "public keys alone") {
		t.Errorf("a private key: %v", err)
	}
	es := pairs()["ES256"]
	point := es.jwk("x", nil)
	for name, k := range map[string]map[string]any{
		"weak":         small.jwk("x", nil),
		"symmetric":    {"kty": "oct", "k": base64.RawURLEncoding.EncodeToString([]byte(secret)), "kid": "x", "alg": "HS256"},
		"private":      es.jwk("x", map[string]any{"d": "AAAA"}),
		"encryption":   es.jwk("x", map[string]any{"use": "enc"}),
		"other ops":    es.jwk("x", map[string]any{"key_ops": []string{"sign"}}),
		"off curve":    es.jwk("x", map[string]any{"y": point["x"]}),
		"other curve":  es.jwk("x", map[string]any{"crv": "P-384"}),
		"secp256k1":    es.jwk("x", map[string]any{"crv": "secp256k1"}),
		"long kid":     es.jwk(strings.Repeat("k", 300), nil),
		"X25519":       {"kty": "OKP", "crv": "X25519", "x": point["x"]},
		"huge modulus": {"kty": "RSA", "n": strings.Repeat("A", 100_000), "e": "AQAB"},
		"exponent 1":   pairs()["RS256"].jwk("x", map[string]any{"e": "AQ"}),
	} {
		if n, err := jwt.ParseSet(jwks(t, k)); err == nil {
			t.Errorf("%s: %d keys are taken", name, n)
		}
	}
}

func FuzzParseSet(f *testing.F) {
	for _, p := range pairs() {
		f.Add(jwks(f, p.jwk("k", nil)))
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AA","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := jwt.ParseSet(text); (n == 0) != (err != nil) {
			t.Errorf("%d keys and %v", n, err)
		}
	})
}
