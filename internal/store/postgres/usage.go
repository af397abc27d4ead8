package postgres

import (
	"context"
	"fmt"

	"github.com/waypost-gateway/waypost/internal/store"
)

// Usage implements store.Retention. Of the file system it can tell nothing: that
// is the server's.
func (s *Store) Usage(ctx context.Context) (store.Usage, error) {
	usage := store.Usage{Free: -1, Size: -1}
	err := s.db.QueryRowContext(ctx, `SELECT pg_database_size(current_database()), COALESCE((SELECT MIN(id) FROM events), 0)`).
		Scan(&usage.Used, &usage.Oldest)
	if err != nil {
		return store.Usage{}, s.Explain("measure the database", err)
	}
	slack, err := s.slack(ctx)
	usage.Used -= slack
	return usage, s.Explain("measure partitions", err)
}

// churnedQuery gives the partitions of which many rows were changed or deleted:
// what they take on disk, and pages of rows. A file does not shrink by that; the
// room is used again.
const churnedQuery = `
SELECT c.relname, i.inhparent = 'events'::regclass, pg_table_size(c.oid), pg_relation_size(c.oid) / 8192
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE i.inhparent IN ('events'::regclass, 'attempts'::regclass)
	AND pg_table_size(c.oid) > 1024 * 1024
	AND s.n_tup_upd + s.n_tup_del > s.n_tup_ins / 10`

// sampled is how many pages of a partition are looked at, about.
const sampled = 256

// slack estimates what is free inside the files of those partitions, from some of
// their pages.
func (s *Store) slack(ctx context.Context) (int64, error) {
	type partition struct {
		name        string
		column      string // whose size varies most
		size, pages int64
	}
	rows, err := s.db.QueryContext(ctx, churnedQuery)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var churned []partition
	for rows.Next() {
		p := partition{column: "detail"}
		var events bool
		if err := rows.Scan(&p.name, &events, &p.size, &p.pages); err != nil {
			return 0, err
		}
		if events {
			p.column = "body"
		}
		churned = append(churned, p)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	var slack int64
	for _, p := range churned {
		const rest = 200 // a row's other columns, its entries in the indexes, room between rows
		percent := min(100, 100*sampled/float64(max(p.pages, 1)))
		var live float64
		err := s.db.QueryRowContext(ctx, fmt.Sprintf(`SELECT COALESCE(SUM(pg_column_size(%s) + %d), 0) FROM %s TABLESAMPLE SYSTEM (%g)`,
			p.column, rest, p.name, percent)).Scan(&live)
		if hasCode(err, undefinedTable) { // forgotten meanwhile
			continue
		}
		if err != nil {
			return 0, err
		}
		slack += max(p.size-int64(live*100/percent), 0)
	}
	return slack, nil
}
