package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// Prepare implements store.Retention: there is nothing to ready.
func (s *Store) Prepare(context.Context, time.Time) error { return nil }

// Usage implements store.Retention. The database file never shrinks: what is
// forgotten is free inside it, for what comes next. That counts as free.
func (s *Store) Usage(ctx context.Context) (store.Usage, error) {
	var pages, unused, size int64
	var usage store.Usage
	row := s.read.QueryRowContext(ctx, `SELECT page_count, freelist_count, page_size, COALESCE((SELECT MIN(id) FROM events), 0)
FROM pragma_page_count, pragma_freelist_count, pragma_page_size`)
	if err := row.Scan(&pages, &unused, &size, &usage.Oldest); err != nil {
		return store.Usage{}, s.Explain("measure the database", err)
	}
	free, total, err := fileSystem(filepath.Dir(s.lock.Name()))
	if err != nil {
		return store.Usage{}, fmt.Errorf("measure the file system: %w", err)
	}
	usage.Used, usage.Free, usage.Size = (pages-unused)*size, free, total
	if free >= 0 {
		usage.Free += unused * size
	}
	return usage, nil
}

// emptyBodies deletes rows and writes them again. A row that is made smaller where
// it is leaves its page as it was, and since ids ascend nothing else would ever
// come there; but pages that rows are deleted from are merged.
func emptyBodies(ctx context.Context, tx *sql.Tx, which string, args ...any) (sql.Result, error) {
	const columns = sqlstore.EventColumns
	for _, statement := range []string{
		`CREATE TEMP TABLE IF NOT EXISTS bare AS SELECT ` + columns + ` FROM events WHERE FALSE`,
		`DELETE FROM temp.bare`,
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	emptied, err := tx.ExecContext(ctx, `INSERT INTO temp.bare SELECT `+columns+` FROM events WHERE `+which, args...)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		`DELETE FROM events WHERE id IN (SELECT id FROM temp.bare)`,
		`INSERT INTO events (` + columns + `, body) SELECT ` + columns + `, x'' FROM temp.bare ORDER BY id`,
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	return emptied, nil
}
