package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxKeys is more than any issuer publishes at once.
const maxKeys = 64

// A jwk is one key of a set (RFC 7517), as far as verifying needs it.
type jwk struct {
	Kty, Use, Alg, Kid, Crv string
	Ops                     []string `json:"key_ops"`
	N, E, X, Y, D           string
}

// parseSet reads a key set. Keys that verify nothing are left out, and said: an issuer publishes
// keys for encryption too. It is an error where none is left.
func parseSet(text []byte) (keys []key, skipped []error, err error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, nil, errors.New("it is no JSON key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("it has %d keys; %d are taken", len(set.Keys), maxKeys)
	}
	for _, raw := range set.Keys {
		var j jwk
		err := json.Unmarshal(raw, &j)
		var k key
		if err == nil {
			k, err = j.key()
		}
		if err != nil {
			skipped = append(skipped, err)
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, skipped, errors.New("no key in it verifies tokens")
	}
	return keys, skipped, nil
}

func (j *jwk) key() (key, error) {
	switch {
	case len(j.Kid) > maxKeyID:
		return key{}, errors.New("its kid is too long")
	case j.Use != "" && j.Use != "sig":
		return key{}, errors.New("it is not for signatures")
	case j.Ops != nil && !slices.Contains(j.Ops, "verify"):
		return key{}, errors.New("it is not for verifying")
	case j.D != "":
		return key{}, errors.New("it is a private key: whoever reads the set can sign tokens")
	}
	public, err := j.public()
	if err != nil {
		return key{}, err
	}
	return newKey(j.Kid, public, j.Alg)
}

// public reads the key's own members (RFC 7518, 6). Symmetric keys, kty oct, are never taken from
// a set: what is published is no secret.
func (j *jwk) public() (any, error) {
	switch j.Kty {
	case "RSA":
		n, err := number(j.N, 1024)
		if err != nil {
			return nil, err
		}
		e, err := number(j.E, 8)
		if err != nil || e.BitLen() > 31 {
			return nil, errors.New("its exponent is too large")
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case "EC":
		return j.curvePoint()
	case "OKP":
		x, err := decode(j.X, ed25519.PublicKeySize)
		if err != nil || j.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("it is no Ed25519 key")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errors.New("its type verifies no token")
}

func (j *jwk) curvePoint() (any, error) {
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
	if curve == nil {
		return nil, errors.New("its curve is none of P-256, P-384, P-521")
	}
	size := (curve.Params().BitSize + 7) / 8
	x, errX := decode(j.X, size)
	y, errY := decode(j.Y, size)
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return nil, errors.New("its point has the wrong size")
	}
	// A point that is not on the curve is an error here.
	return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
}

func number(s string, most int) (*big.Int, error) {
	b, err := decode(s, most)
	if err != nil || len(b) == 0 {
		return nil, errors.New("it lacks a number")
	}
	return new(big.Int).SetBytes(b), nil
}

func decode(s string, most int) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil && len(b) > most {
		err = errors.New("a member is too long")
	}
	return b, err
}
