package replication

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// The messages inside CopyData, from "Streaming Replication Protocol" in PostgreSQL's manual.
const (
	kindData      = 'w' // XLogData
	kindKeepalive = 'k' // primary keepalive message
	kindStatus    = 'r' // standby status update

	dataHeader    = 1 + 8 + 8 + 8 // kind, start, server's end, time
	keepaliveSize = 1 + 8 + 8 + 1 // kind, server's end, time, whether a reply is wanted
	statusSize    = 1 + 8 + 8 + 8 + 8 + 1
)

// A keepalive is the server's word that it has sent everything up to end.
type keepalive struct {
	end       cdc.LSN
	wantReply bool
}

func parseKeepalive(b []byte) (keepalive, error) {
	if len(b) != keepaliveSize {
		return keepalive{}, fmt.Errorf("parse keepalive: %d bytes, want %d", len(b), keepaliveSize)
	}
	return keepalive{end: cdc.LSN(binary.BigEndian.Uint64(b[1:])), wantReply: b[keepaliveSize-1] != 0}, nil
}

// parseData gives the payload of an XLogData message, a part of b, and the server's WAL end.
func parseData(b []byte) (payload []byte, serverEnd cdc.LSN, err error) {
	if len(b) < dataHeader {
		return nil, 0, fmt.Errorf("parse WAL data: %d bytes, want at least %d", len(b), dataHeader)
	}
	return b[dataHeader:], cdc.LSN(binary.BigEndian.Uint64(b[9:])), nil
}

// beginsAt tells whether the payload opens a transaction, and where that commits. This and
// isCommit are all that the package needs to know of pgoutput: what is open must not be
// acknowledged, whatever the handler makes of it.
func beginsAt(payload []byte) (commit cdc.LSN, ok bool) {
	if len(payload) < 9 || payload[0] != 'B' {
		return 0, false
	}
	return cdc.LSN(binary.BigEndian.Uint64(payload[1:])), true
}

// isCommit tells whether the payload closes a transaction.
func isCommit(payload []byte) bool { return len(payload) > 0 && payload[0] == 'C' }

// endsAt tells whether the payload closes a transaction, and the position behind it.
func endsAt(payload []byte) (end cdc.LSN, ok bool) {
	if len(payload) < 18 || !isCommit(payload) {
		return 0, false
	}
	return cdc.LSN(binary.BigEndian.Uint64(payload[10:])), true
}

// appendStatus appends a status update that says the same for write, flush and apply. Only
// Progress may call it.
func appendStatus(b []byte, position cdc.LSN, now time.Time, wantReply bool) []byte {
	b = append(b, kindStatus)
	for range 3 {
		b = binary.BigEndian.AppendUint64(b, uint64(position))
	}
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Sub(epoch).Microseconds()))
	if wantReply {
		return append(b, 1)
	}
	return append(b, 0)
}
