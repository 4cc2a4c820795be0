package rls

// determined tells whether an error that a policy raised would be raised again for the same
// image and claims. If so the image is hidden; if not nothing is known, and the subscription
// resyncs.
//
// What is not listed is determined: an unknown code is one that a policy function chose itself
// (RAISE … USING ERRCODE). Codes are those of PostgreSQL's appendix A.
func determined(sqlstate string) bool {
	if len(sqlstate) != 5 {
		return false
	}
	switch sqlstate {
	case "25006", // read_only_sql_transaction: a policy function that writes
		"25001": // active_sql_transaction: one that would, and asks for it
		return true
	}
	switch sqlstate[:2] {
	case "08", // connection exception, here or of a foreign server
		"25", // invalid transaction state: our own doing
		"26", // invalid SQL statement name: a prepared statement is gone
		"40", // transaction rollback: deadlock, serialisation
		"53", // insufficient resources
		"55", // object not in prerequisite state: locks
		"57", // operator intervention: cancel, timeout, shutdown
		"58", // system error
		"72", // snapshot too old
		"F0", // configuration file error
		"HV", // foreign data wrapper
		"XX": // internal error, data corrupted
		return false
	}
	return true
}
