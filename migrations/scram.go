package migrations

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// scramIterations is PostgreSQL's default for scram_iterations.
const scramIterations = 4096

// verifier is what PostgreSQL stores of a password under SCRAM-SHA-256 (RFC 5803). Sending it
// instead of the password keeps the password out of the server's logs and statistics.
func verifier(password string) (string, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, 16)
	rand.Read(salt) // it never fails
	return scramSHA256(password, salt, scramIterations)
}

// checkPassword refuses what SASLprep (RFC 4013) would change: the verifier would be of another
// password.
func checkPassword(password string) error {
	for _, r := range password {
		if r < ' ' || r > '~' {
			return errors.New("the password has characters outside printable ASCII: choose another")
		}
	}
	return nil
}

func scramSHA256(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive password verifier: %w", err)
	}
	sum := func(key []byte, message string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(message))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sum(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(sum(salted, "Server Key"))), nil
}

// verifies tells whether a stored verifier is one of the password.
func verifies(stored, password string) bool {
	rest, ok := strings.CutPrefix(stored, "SCRAM-SHA-256$")
	if !ok {
		return false
	}
	head, _, _ := strings.Cut(rest, "$")
	count, encoded, _ := strings.Cut(head, ":")
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	same, err := scramSHA256(password, salt, iterations)
	return err == nil && hmac.Equal([]byte(same), []byte(stored))
}
