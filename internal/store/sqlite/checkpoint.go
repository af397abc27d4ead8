package sqlite

import (
	"context"
	"database/sql"
	"log/slog"
	"time"
)

// checkpointEvery is how long after a commit the log is copied into the database.
const checkpointEvery = 100 * time.Millisecond

// checkpointer copies the log into the database file in the background, so that
// commits rarely have to do it themselves. Should it fail or fall behind, they
// do: see wal_autocheckpoint.
type checkpointer struct {
	db     *sql.DB
	log    *slog.Logger
	dirty  chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

func startCheckpointer(path string, log *slog.Logger) (*checkpointer, error) {
	db, err := connect(path, 1, "synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &checkpointer{db: db, log: log, dirty: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	go c.run(ctx)
	return c, nil
}

// wrote tells that there is something to copy.
func (c *checkpointer) wrote() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

func (c *checkpointer) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dirty:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkpointEvery):
		}
		if _, err := c.db.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil && ctx.Err() == nil {
			c.log.Warn("checkpoint failed", "error", err)
		}
	}
}

func (c *checkpointer) stop() error {
	c.cancel()
	<-c.done
	return c.db.Close()
}
