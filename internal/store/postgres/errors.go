package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// classify names the fault behind an error of pgx or of the server.
func classify(err error) sqlstore.Fault {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyCode(e.Code)
	}
	_, committing := errors.AsType[*sqlstore.CommitError](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case committing, connecting, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return sqlstore.FaultUnavailable
	case broken(err):
		return sqlstore.FaultTransient // the connection was lost, and the transaction with it
	default:
		return sqlstore.FaultOther
	}
}

// classifyCode names the fault behind a SQLSTATE.
func classifyCode(code string) sqlstore.Fault {
	switch code {
	case "23505": // unique_violation
		return sqlstore.FaultUnique
	case "22021", "22P05": // character not in repertoire, untranslatable character
		return sqlstore.FaultText
	case "40001", "40P01": // serialization failure, deadlock
		return sqlstore.FaultTransient
	case "57P01", "25P03": // the session was ended: by the administrator, for idling
		return sqlstore.FaultTransient
	case "25006", "55P03", "57014", "58030": // read-only, lock or statement timeout, I/O error
		return sqlstore.FaultUnavailable
	}
	for _, class := range []string{"08", "53", "57"} { // connection, resources (disk full), operator
		if strings.HasPrefix(code, class) {
			return sqlstore.FaultUnavailable
		}
	}
	return sqlstore.FaultOther
}

// broken reports whether the connection was lost.
func broken(err error) bool {
	var network net.Error
	return errors.As(err, &network) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, pgconn.ErrConnClosed)
}
