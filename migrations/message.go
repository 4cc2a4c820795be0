package migrations

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// MessagePrefix is the prefix of Rowtide's logical messages.
const MessagePrefix = "rowtide"

// Verify tells whether a transactional logical message was written by the event triggers of the
// installation whose key it is, in the transaction with this id. Anybody who can connect can
// write a message with our prefix; nobody who cannot read the key can sign one, and a signature
// is worth nothing in another transaction.
func Verify(content, key []byte, xid uint32) bool {
	rest, ok := strings.CutPrefix(string(content), "v1 ")
	if !ok || len(key) == 0 {
		return false
	}
	sum, body, ok := strings.Cut(rest, " ")
	if !ok {
		return false
	}
	mac, err := hex.DecodeString(sum)
	if err != nil {
		return false
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(body))
	if !hmac.Equal(mac, h.Sum(nil)) {
		return false
	}
	id, _, _ := strings.Cut(body, " ")
	full, err := strconv.ParseUint(id, 10, 64)
	return err == nil && uint32(full) == xid //nolint:gosec // the stream has the low half
}

// Announced gives the relations that a verified message says were changed. It is false where the message
// does not say which, or is about anything else.
func Announced(content []byte) ([]uint32, bool) {
	fields := strings.Fields(string(content)) // v1, the signature, the transaction, "catalog", relations
	if len(fields) != 5 || fields[3] != "catalog" {
		return nil, false
	}
	var out []uint32
	for oid := range strings.SplitSeq(fields[4], ",") {
		n, err := strconv.ParseUint(oid, 10, 32)
		if err != nil {
			return nil, false
		}
		out = append(out, uint32(n))
	}
	return out, true
}
