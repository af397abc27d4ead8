package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
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
