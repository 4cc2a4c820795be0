package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	gojwt "github.com/golang-jwt/jwt/v5"
)

// A key verifies signatures of the algorithms that belong to it, and of no other: a public key
// must never serve as an HMAC secret, whatever a token's header says (RFC 8725, 3.1).
type key struct {
	id   string // "" for one that a token need not name
	key  gojwt.VerificationKey
	algs []string
}

// minRSA is the shortest modulus taken, in bits (RFC 7518, 3.3).
const minRSA = 2048

// newKey binds a key to its algorithms. Where alg is not "" only that one is left.
func newKey(id string, public any, alg string) (key, error) {
	k := key{id: id, key: public}
	switch public := public.(type) {
	case []byte:
		k.algs = []string{"HS256", "HS384", "HS512"}
	case *rsa.PublicKey:
		if n := public.N.BitLen(); n < minRSA || public.E < 3 || public.E%2 == 0 {
			return key{}, fmt.Errorf("RSA key of %d bits is too weak: use %d or more", n, minRSA)
		}
		k.algs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		// Of each curve RFC 7518, 3.4, has one algorithm.
		switch public.Curve {
		case elliptic.P256():
			k.algs = []string{"ES256"}
		case elliptic.P384():
			k.algs = []string{"ES384"}
		case elliptic.P521():
			k.algs = []string{"ES512"}
		default:
			return key{}, errors.New("elliptic curve is none of P-256, P-384, P-521")
		}
	case ed25519.PublicKey:
		k.algs = []string{"EdDSA"}
	default:
		return key{}, fmt.Errorf("key of type %T verifies no token", public)
	}
	if alg == "" {
		return k, nil
	}
	if !slices.Contains(k.algs, alg) {
		return key{}, fmt.Errorf("key is said to be for %q, which is no algorithm of its type", alg)
	}
	k.algs = []string{alg}
	return k, nil
}

// methods are all algorithms that any key can have. None of them is none.
func methods() []string {
	return []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
	}
}

// readPEM reads public keys and certificates.
func readPEM(text []byte) ([]key, error) {
	var out []key
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		var public any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = c.PublicKey
			}
		default:
			err = fmt.Errorf("it has a block %q: a verifier needs public keys alone, such as those of: openssl pkey -pubout", block.Type)
		}
		var k key
		if err == nil {
			k, err = newKey("", public, "")
		}
		if err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, errors.New("read public key: there is no PEM block in it")
	}
	return out, nil
}

// verification gives the keys that a token's header asks for. Nobody has verified it: only alg and
// kid are read of it, to pick among our own keys; jku, x5u, x5c and jwk, which name the attacker's
// own, are not (S22).
func (v *Verifier) verification(t *gojwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("header crit: no extension is known") // RFC 7515, 4.1.11
	}
	id := ""
	if h, ok := t.Header["kid"]; ok {
		if id, ok = h.(string); !ok || len(id) > maxKeyID {
			return nil, errors.New("header kid: not a short string")
		}
	}
	alg := t.Method.Alg()
	set := pick(v.static, alg, id)
	if v.remote != nil {
		set = append(set, pick(v.remote.keys(), alg, id)...)
		if len(set) == 0 && v.remote.again() {
			set = pick(v.remote.keys(), alg, id)
		}
	}
	if len(set) == 0 {
		return nil, errors.New("no key")
	}
	return gojwt.VerificationKeySet{Keys: set}, nil
}

// maxTried bounds the keys that one token is tried with.
const maxTried = 8

// pick gives the keys of an algorithm: those of that id, and those without one. A token that
// names none may have been signed with any.
func pick(keys []key, alg, id string) []gojwt.VerificationKey {
	var out []gojwt.VerificationKey
	for _, k := range keys {
		if slices.Contains(k.algs, alg) && (k.id == id || k.id == "" || id == "") && len(out) < maxTried {
			out = append(out, k.key)
		}
	}
	return out
}
