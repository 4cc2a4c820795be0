package replication

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

// A Reason says why the stream cannot be had, or not now.
type Reason uint8

// The reasons. Each comes with a line that says what to do.
const (
	// BadURL: the connection string cannot be read.
	BadURL Reason = iota + 1
	// Unreachable: nobody answers at the address, or not as PostgreSQL does.
	Unreachable
	// LoginRefused: no such role, a wrong password, or pg_hba.conf says no.
	LoginRefused
	// NoDatabase: there is no database of that name.
	NoDatabase
	// NoRight: the role lacks REPLICATION or may not connect.
	NoRight
	// Pooler: what answers is a connection pooler and not a server.
	Pooler
	// TooOld: the server is older than PostgreSQL 15.
	TooOld
	// Settings: the session does not have the settings that fix the text of values.
	Settings
	// WALLevel: wal_level is not logical.
	WALLevel
	// Standby: the server is in recovery.
	Standby
	// TooManySenders: max_wal_senders or max_connections are used up.
	TooManySenders
	// TooManySlots: max_replication_slots are used up.
	TooManySlots
	// NoPublication: the publication does not exist, or did not where the stream stands.
	NoPublication
	// SlotInUse: another session streams from the slot.
	SlotInUse
	// SlotUnfit: the slot is temporary, physical, of another plugin or another database.
	SlotUnfit
	// SlotLost: the slot is gone or invalidated, and changes with it.
	SlotLost
	// SlowSlot: the slot could not be made within Config.CreateTimeout.
	SlowSlot
	// Gap: the server cannot go on from where the stream was left.
	Gap
	// Undecodable: the server fails to decode a transaction, and would each time.
	Undecodable
	// Unpublished: the publication was missing for a while, and changes of then with it.
	Unpublished
)

// Terminal tells which reasons end Run: this is the whole list. Whatever is not on it, and every
// error that has no Reason, is tried again.
func (r Reason) Terminal() bool {
	switch r {
	case BadURL, LoginRefused, NoDatabase, NoRight, Pooler, TooOld, Settings, WALLevel,
		TooManySlots, NoPublication, SlotUnfit, SlotLost, SlowSlot, Gap, Undecodable:
		return true
	case Unreachable, Standby, TooManySenders, SlotInUse, Unpublished:
	}
	return false
}

// An Error is a Reason with what it concerns and what to do about it, in one line.
type Error struct {
	Reason Reason
	// What happened, to what.
	What string
	// Fix is what to do.
	Fix string
	// Err is what it was concluded from, or nil.
	Err error
}

// Error is "what: cause; fix", in one line.
func (e *Error) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + oneLine(e.Err)
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// Unwrap gives what the error was concluded from.
func (e *Error) Unwrap() error { return e.Err }

// Terminal tells whether trying again is of no use.
func (e *Error) Terminal() bool { return e.Reason.Terminal() }

// Terminal tells whether Run ends with err rather than try again: the Reasons that say so, and
// errors of the handler that have a method Terminal which does.
func Terminal(err error) bool {
	var t interface{ Terminal() bool }
	return errors.As(err, &t) && t.Terminal()
}

// reasonOf gives the Reason of err, 0 where it has none.
func reasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return 0
}

// oneLine gives an error's text without the lines and the tabs that pgconn puts between the
// addresses it tried.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// SQLSTATEs, from "PostgreSQL Error Codes" in its manual.
const (
	protocolViolation    = "08P01"
	invalidAuthorization = "28000"
	invalidPassword      = "28P01"
	invalidCatalogName   = "3D000"
	noPrivilege          = "42501"
	syntaxError          = "42601"
	undefinedObject      = "42704"
	tooManyConnections   = "53300"
	limitExceeded        = "53400"
	programLimit         = "54000"
	wrongState           = "55000"
	objectInUse          = "55006"
	queryCanceled        = "57014"
	cannotConnectNow     = "57P03"
	undefinedFile        = "58P01"
)

func sqlState(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

// connectError says what an error of connecting means.
func connectError(err error, cfg *pgconn.Config) error {
	where := fmt.Sprintf("connect to %s:%d as %s", cfg.Host, cfg.Port, cfg.User)
	e := &Error{What: where, Err: cause(err)}
	switch sqlState(err) {
	case invalidPassword, invalidAuthorization:
		e.Reason, e.Fix = LoginRefused, "check the user and the password in the connection string, and pg_hba.conf"
	case invalidCatalogName:
		e.Reason, e.Fix = NoDatabase, "check the database in the connection string"
	case noPrivilege:
		e.Reason, e.Fix = NoRight, fmt.Sprintf("as superuser: ALTER ROLE %q REPLICATION; GRANT CONNECT ON DATABASE %q TO %q", cfg.User, cfg.Database, cfg.User)
	case tooManyConnections:
		e.Reason, e.Fix = TooManySenders, "raise max_wal_senders (or max_connections) or end what uses them up: SELECT * FROM pg_stat_replication"
	case protocolViolation:
		e.Reason, e.Fix = Pooler, poolerFix
	case "", cannotConnectNow:
		e.Reason, e.Fix = Unreachable, "check that PostgreSQL runs there and accepts connections from here"
	default:
		e.Reason = Unreachable
	}
	return e
}

const poolerFix = "this is a connection pooler and not PostgreSQL itself: use the server's own address, as replication cannot pass a pooler"

// cause strips pgconn's wrapping, which says the address over again for each one tried.
func cause(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe
	}
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) {
		if inner := errors.Unwrap(ce); inner != nil {
			return inner
		}
	}
	return err
}

// streamError says what an error of the server means once the slot was found fit. open is the
// commit LSN of the transaction that the server was sending, 0 where that is not known.
func (c *Consumer) streamError(err error, open cdc.LSN) error {
	switch sqlState(err) {
	case objectInUse:
		return &Error{Reason: SlotInUse, What: fmt.Sprintf("stream from slot %q", c.cfg.Slot), Err: cause(err), Fix: "end the session that streams from it, or use another slot"}
	case undefinedObject:
		var pe *pgconn.PgError
		if errors.As(err, &pe) && pe.Routine == "ReplicationSlotAcquire" {
			return err // gone since it was found: the next attempt tells what that means
		}
		return c.noPublication(cause(err))
	case programLimit:
		behind := "the position behind it"
		if open != 0 {
			behind = "'" + (open + 1).String() + "'"
		}
		return &Error{
			Reason: Undecodable, What: fmt.Sprintf("decode a transaction behind %s", c.cfg.Progress.Position()), Err: cause(err),
			Fix: fmt.Sprintf("it holds a value too large for PostgreSQL to send; all that helps is to skip the transaction: SELECT pg_replication_slot_advance('%s', %s)", c.cfg.Slot, behind),
		}
	}
	return err
}

// noPublication explains that a publication made after the slot does not help: what the slot
// still has to decode comes from before, where it does not exist.
func (c *Consumer) noPublication(err error) error {
	fix := fmt.Sprintf("it must have existed since before slot %q was made: create it, drop the slot, and start anew", c.cfg.Slot)
	if c.cfg.OnLoss != nil {
		fix = "make it again with rowtide setup or rowtide sync: then the stream goes on, and every subscriber is told to resync"
	}
	return &Error{Reason: NoPublication, What: fmt.Sprintf("stream publications %q", c.cfg.Publications), Err: err, Fix: fix}
}

func (c *Consumer) slotGone() error {
	return &Error{
		Reason: SlotLost, What: fmt.Sprintf("replication slot %q does not exist: changes behind %s are lost", c.cfg.Slot, c.expected()),
		Fix: "start anew without the position, and let every subscriber resync",
	}
}
