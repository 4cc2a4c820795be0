package fanout

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"

	"github.com/rowtide/rowtide/cdc"
)

// ErrCursor says that a cursor is not one of this installation and timeline. Clients are told
// the same as of a cursor that is no longer held, so that they learn nothing by trying.
var ErrCursor = errors.New("cursor is not valid here")

// CursorConfig configures a CursorCodec.
type CursorConfig struct {
	// Secret is the installation's, at least 16 bytes: its cursors are valid on every node
	// that has it. Required.
	Secret []byte
	// System is the database's system identifier: cursors of another are refused. Required.
	System uint64
	// Timeline is the database's present one.
	Timeline uint32
	// Forks gives, for each earlier timeline in the present one's history, the LSN at which
	// it was left: cursors of it up to there are valid. Defaults to none.
	Forks map[uint32]cdc.LSN
	// Generation tells histories of one timeline apart, of which one replaced the other as only
	// a restore of files can: cursors of another are refused. Defaults to 0.
	Generation uint64
}

// A CursorCodec makes cursors from positions and back. A cursor is 32 characters: one block,
// encrypted, and a check. It is a function of the WAL and the secret alone, so every node gives
// one change the same cursor, to every subscriber; it reveals nothing and grants nothing.
//
// Its methods may be called from many goroutines.
type CursorCodec struct {
	now atomic.Pointer[cursors]
}

// cursors are those of one history.
type cursors struct {
	block    cipher.Block
	mac, ids *keyedHash
	timeline uint32
	forks    map[uint32]cdc.LSN
}

const (
	cursorCheck = 8 // bytes: forging one takes 2^63 tries on average, each a request
	cursorBytes = aes.BlockSize + cursorCheck
	cursorLen   = cursorBytes / 3 * 4
	minSecret   = 16
)

// NewCursorCodec makes a codec.
func NewCursorCodec(c CursorConfig) (*CursorCodec, error) {
	codec := &CursorCodec{}
	if err := codec.Switch(c); err != nil {
		return nil, err
	}
	return codec, nil
}

// Switch goes on with another configuration: the server's history has changed. On an error
// nothing has.
func (c *CursorCodec) Switch(cfg CursorConfig) error {
	now, err := newCursors(cfg)
	if err == nil {
		c.now.Store(now)
	}
	return err
}

// frozen is the codec as it is now: a replay of one history must not make cursors of another.
func (c *CursorCodec) frozen() *CursorCodec {
	f := &CursorCodec{}
	f.now.Store(c.now.Load())
	return f
}

func newCursors(c CursorConfig) (*cursors, error) {
	if len(c.Secret) < minSecret {
		return nil, fmt.Errorf("make cursor codec: the secret has %d bytes, want at least %d", len(c.Secret), minSecret)
	}
	salt := binary.BigEndian.AppendUint64(nil, c.System)
	if c.Generation != 0 {
		salt = binary.BigEndian.AppendUint64(salt, c.Generation)
	}
	var keys [3][]byte
	for i, use := range []string{"rowtide cursor encryption", "rowtide cursor check", "rowtide transaction id"} {
		k, err := hkdf.Key(sha256.New, c.Secret, salt, use, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("make cursor codec: %w", err)
		}
		keys[i] = k
	}
	block, err := aes.NewCipher(keys[0])
	if err != nil {
		return nil, fmt.Errorf("make cursor codec: %w", err)
	}
	return &cursors{block: block, mac: newKeyedHash(keys[1]), ids: newKeyedHash(keys[2]), timeline: c.Timeline, forks: c.Forks}, nil
}

// Encode gives the cursor of a position.
func (c *CursorCodec) Encode(p cdc.Position) string { return c.now.Load().encode(p) }

func (c *cursors) encode(p cdc.Position) string {
	var plain [aes.BlockSize]byte
	binary.BigEndian.PutUint64(plain[:], uint64(p.Commit))
	binary.BigEndian.PutUint32(plain[8:], p.Seq)
	binary.BigEndian.PutUint32(plain[12:], c.timeline)
	out := make([]byte, aes.BlockSize, cursorBytes)
	c.block.Encrypt(out, plain[:])
	out = append(out, c.mac.sum(out, cursorCheck)...)
	return base64.RawURLEncoding.EncodeToString(out)
}

// Decode gives the position of a cursor, or ErrCursor: for one that was changed, of another
// installation or database, or from beyond the fork of a later timeline.
func (c *CursorCodec) Decode(s string) (cdc.Position, error) { return c.now.Load().decode(s) }

func (c *cursors) decode(s string) (cdc.Position, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != cursorBytes || len(s) != cursorLen { // base64 takes line ends
		return cdc.Position{}, ErrCursor
	}
	if !hmac.Equal(raw[aes.BlockSize:], c.mac.sum(raw[:aes.BlockSize], cursorCheck)) {
		return cdc.Position{}, ErrCursor
	}
	var plain [aes.BlockSize]byte
	c.block.Decrypt(plain[:], raw[:aes.BlockSize])
	p := cdc.Position{Commit: cdc.LSN(binary.BigEndian.Uint64(plain[:])), Seq: binary.BigEndian.Uint32(plain[8:])}
	timeline := binary.BigEndian.Uint32(plain[12:])
	if fork, ok := c.forks[timeline]; timeline != c.timeline && (!ok || p.Commit >= fork) {
		return cdc.Position{}, ErrCursor
	}
	return p, nil
}

// TransactionID is the opaque id of the transaction with that commit LSN. It is no cursor.
func (c *CursorCodec) TransactionID(commit cdc.LSN) string {
	const idBytes = 12 // as many as installations have transactions, squared
	return base64.RawURLEncoding.EncodeToString(c.now.Load().ids.sum(binary.BigEndian.AppendUint64(nil, uint64(commit)), idBytes))
}

// A keyedHash authenticates under one key. It keeps its hashes: there is a cursor in every frame, and to
// make a hash costs more than to use it.
type keyedHash struct{ hashes sync.Pool }

func newKeyedHash(key []byte) *keyedHash {
	return &keyedHash{sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// sum gives the first n bytes of the authentication code of data.
func (k *keyedHash) sum(data []byte, n int) []byte {
	h, _ := k.hashes.Get().(hash.Hash) // New makes nothing else
	h.Reset()
	h.Write(data)
	out := h.Sum(make([]byte, 0, sha256.Size))
	k.hashes.Put(h)
	return out[:n]
}
