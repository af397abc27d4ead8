package postgres

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
)

// channel is what notices are sent on.
const channel = "waypost"

// notify tells all nodes that anything may have changed, when the transaction is
// committed.
func notify(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_notify('`+channel+`', '')`)
	return err
}

const (
	relistenFirst = 100 * time.Millisecond
	relistenMax   = 2 * time.Second
)

// listener turns notifications into notices, on a connection of its own that it
// makes anew whenever it breaks.
type listener struct {
	config  *pgx.ConnConfig
	log     *slog.Logger
	notices mailbox
	cancel  context.CancelFunc
	done    chan struct{}
}

func listen(config *pgx.ConnConfig, log *slog.Logger) *listener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{config: config, log: log, notices: make(mailbox, 1), cancel: cancel, done: make(chan struct{})}
	go l.run(ctx)
	return l
}

// Notices implements store.Settings.
func (s *Store) Notices() <-chan store.Notice { return s.listener.notices }

func (l *listener) run(ctx context.Context) {
	defer close(l.done)
	for wait := relistenFirst; ; wait = min(2*wait, relistenMax) {
		listening, err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if listening {
			wait = relistenFirst
		}
		l.log.Warn("listening for notices was interrupted", "error", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// session listens until the connection breaks. It reports whether it came to
// listen at all.
func (l *listener) session(ctx context.Context) (listening bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, l.config)
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // whatever state it is in, it is done with
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return false, err
	}
	l.notices.put(store.Notice{}) // something may have been missed meanwhile
	for {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true, err
		}
		l.notices.put(decodeNotice(notification.Payload))
	}
}

func (l *listener) stop() {
	l.cancel()
	<-l.done
}
