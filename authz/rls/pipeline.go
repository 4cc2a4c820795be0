package rls

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

var errLost = errors.New("connection lost")

// control sends a statement of transaction control. It is never a prepared one: a policy
// function can replace those (PREPARE and DEALLOCATE are no part of a transaction).
func control(p *pgconn.Pipeline, sql string) {
	p.SendQueryParams(sql, nil, nil, nil, nil)
}

// A reply is what came back up to a synchronisation point.
type reply struct {
	// rows has the first row of each statement that succeeded: nil where it gave none, which
	// a row without columns is not.
	rows [][][]byte
	// err is the error of the statement behind those, if one failed. The rest was skipped.
	err *pgconn.PgError
}

// receive reads the reply up to the next synchronisation point. Its error is one of the
// connection.
func receive(p *pgconn.Pipeline) (reply, error) {
	var r reply
	for {
		result, err := p.GetResults()
		switch result := result.(type) {
		case *pgconn.PipelineSync:
			return r, nil
		case *pgconn.ResultReader:
			var row [][]byte
			if result.NextRow() {
				row = make([][]byte, 0, len(result.Values()))
				for _, v := range result.Values() {
					row = append(row, slices.Clone(v))
				}
			}
			if _, err = result.Close(); err == nil {
				r.rows = append(r.rows, row)
			}
		case nil:
			if err == nil {
				return r, errLost
			}
		}
		if err == nil {
			continue
		}
		problem, lost := asPgError(err)
		if lost != nil {
			return r, lost
		}
		r.err = problem
	}
}
