package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// A pipe sends statements all at once and reads their answers together, like a
// pgx.Batch. Unlike one it can have rows copied into tables between them, which
// costs the server half of what inserting does, and it encodes what it sends once,
// into memory that is used again.
//
// When a statement fails, the server passes over those behind it.
type pipe struct {
	conn   *pgx.Conn
	out    []byte
	queued int
	err    error // the first of queueing
}

// answer is what a statement came to.
type answer struct {
	rows   int64   // how many it read, wrote or removed
	values []int64 // the first column of those it returned
}

const (
	// keptPipe is how much memory a pipe may keep for its next use.
	keptPipe = 4 << 20
	// cancelTimeout bounds the telling of a server to stop.
	cancelTimeout = 15 * time.Second
)

var pipes = sync.Pool{New: func() any { return new(pipe) }}

func pipeTo(conn *pgx.Conn) *pipe {
	p := pipes.Get().(*pipe)
	p.conn = conn
	return p
}

// free gives the pipe's memory to the next one.
func (p *pipe) free() {
	if cap(p.out) <= keptPipe {
		*p = pipe{out: p.out[:0]}
		pipes.Put(p)
	}
}

// queue adds a statement.
func (p *pipe) queue(ctx context.Context, statement string, args ...any) {
	described := p.prepare(ctx, statement)
	if p.err != nil {
		return
	}
	at := p.begin('B')
	p.out = append(p.out, 0) // the portal without a name
	p.out = append(append(p.out, described.Name...), 0)
	p.short(1)
	p.short(pgtype.BinaryFormatCode) // all arguments
	p.short(len(args))
	for i, arg := range args {
		p.argument(described.ParamOIDs[i], arg)
	}
	p.short(1)
	p.short(pgtype.BinaryFormatCode) // all results
	p.end(at)
	at = p.begin('E')
	p.out = append(p.out, 0, 0, 0, 0, 0) // the same portal, all rows
	p.end(at)
	p.queued++
}

func (p *pipe) prepare(ctx context.Context, statement string) *pgconn.StatementDescription {
	if p.err != nil {
		return nil
	}
	described, err := p.conn.Prepare(ctx, statement, statement)
	p.err = err
	return described
}

func (p *pipe) argument(oid uint32, arg any) {
	at := len(p.out)
	encoded, err := p.conn.TypeMap().Encode(oid, pgtype.BinaryFormatCode, arg, append(p.out, 0, 0, 0, 0))
	switch {
	case err != nil:
		p.err = errors.Join(p.err, fmt.Errorf("encode argument: %w", err))
	case encoded == nil:
		p.err = errors.Join(p.err, errors.New("an argument is null"))
	default:
		p.out = encoded
		p.measure(at, 4)
	}
}

// copyHeader begins what is copied in binary form: its mark, no flags, no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// copy adds a COPY … FROM STDIN (FORMAT binary) and the rows that write tells.
func (p *pipe) copy(ctx context.Context, statement string, write func(*pipe)) {
	if p.queue(ctx, statement); p.err != nil {
		return
	}
	at := p.begin('d')
	p.out = append(p.out, copyHeader...)
	write(p)
	p.short(-1) // no more rows
	p.end(at)
	p.end(p.begin('c'))
}

// row begins a row of so many columns, which follow.
func (p *pipe) row(columns int) { p.short(columns) }

func (p *pipe) long(v int64) {
	p.out = binary.BigEndian.AppendUint32(p.out, 8)
	p.out = binary.BigEndian.AppendUint64(p.out, uint64(v))
}

func (p *pipe) text(v string) {
	p.out = binary.BigEndian.AppendUint32(p.out, uint32(len(v)))
	p.out = append(p.out, v...)
}

func (p *pipe) bytes(v []byte) {
	p.out = binary.BigEndian.AppendUint32(p.out, uint32(len(v)))
	p.out = append(p.out, v...)
}

// built is a column that is appended in place.
func (p *pipe) built(appendTo func([]byte) []byte) {
	at := len(p.out)
	p.out = appendTo(append(p.out, 0, 0, 0, 0))
	p.measure(at, 4)
}

func (p *pipe) short(v int) { p.out = binary.BigEndian.AppendUint16(p.out, uint16(v)) }

// begin begins a message, whose length end fills in.
func (p *pipe) begin(kind byte) (at int) {
	p.out = append(p.out, kind, 0, 0, 0, 0)
	return len(p.out) - 4
}

func (p *pipe) end(at int) { p.measure(at, 0) }

// measure fills in the length of what follows at, which counts itself but for less.
func (p *pipe) measure(at, less int) {
	binary.BigEndian.PutUint32(p.out[at:], uint32(len(p.out)-at-less))
}

// run sends what is queued and waits for all answers. After an error that is not
// the server's the connection is closed.
func (p *pipe) run(ctx context.Context) ([]answer, error) {
	if p.err != nil {
		return nil, p.err
	}
	p.end(p.begin('S'))
	return p.send(ctx)
}

// command runs one statement that neither takes nor gives anything, through a pipe
// that nothing was queued to. It is a simple query: once that is carried out, the
// server says so before it heeds anything else, such as being told to shut down.
func (p *pipe) command(ctx context.Context, statement string) error {
	at := p.begin('Q')
	p.out = append(append(p.out, statement...), 0)
	p.end(at)
	_, err := p.send(ctx)
	return err
}

func (p *pipe) send(ctx context.Context) ([]answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pg := p.conn.PgConn()
	stop := context.AfterFunc(ctx, func() { _ = pg.Conn().SetDeadline(time.Unix(1, 0)) })
	answers, err := p.exchange(pg)
	if !stop() { // nobody knows when the deadline strikes, so the connection can't be used again
		err = errors.Join(ctx.Err(), err)
	}
	if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && (!refused || ctx.Err() != nil) {
		abandon(pg)
	}
	return answers, err
}

func (p *pipe) exchange(pg *pgconn.PgConn) ([]answer, error) {
	if _, err := pg.Conn().Write(p.out); err != nil {
		return nil, err
	}
	answers := make([]answer, 0, p.queued)
	var one answer
	var failed error
	for {
		message, err := pg.ReceiveMessage(context.Background())
		if err != nil {
			return nil, errors.Join(failed, err)
		}
		switch message := message.(type) {
		case *pgproto3.DataRow:
			if len(message.Values[0]) == 8 {
				one.values = append(one.values, int64(binary.BigEndian.Uint64(message.Values[0])))
			}
		case *pgproto3.CommandComplete:
			one.rows = pgconn.NewCommandTag(string(message.CommandTag)).RowsAffected()
			answers, one = append(answers, one), answer{}
		case *pgproto3.ErrorResponse:
			failed = pgconn.ErrorResponseToPgError(message)
		case *pgproto3.ReadyForQuery:
			return answers, failed
		}
	}
}

// abandon closes a connection in the middle of something, and has the server stop
// what it is doing.
func abandon(pg *pgconn.PgConn) {
	if pg.IsClosed() {
		return
	}
	_ = pg.Conn().SetDeadline(time.Unix(1, 0)) // closing it waits for nothing
	_ = pg.Close(context.Background())
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		_ = pg.CancelRequest(ctx) // or it notices by itself that nobody listens
	}()
}
