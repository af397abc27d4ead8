package sqlstore

import (
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
)

// What follows is for copying a whole database into one of the other kind. The
// two have the same tables with the same columns, and a value that one holds the
// other can hold: whole numbers, texts and bytes.

// Table is a table as the database itself describes it. What is copied follows
// the schema, so that no table and no column can be forgotten.
type Table struct {
	Name    string
	Columns []string
}

// Rows are rows of a table, each in the order of its columns. They end with the
// first error.
type Rows = iter.Seq2[[]any, error]

// VersionTable is where the migrations note what they have done. It is the one
// table that is not copied: every database keeps its own.
const VersionTable = goose.DefaultTablename

// SelectVersion reads the version of the schema.
const SelectVersion = `SELECT COALESCE(MAX(version_id), 0) FROM ` + VersionTable

// Select reads all rows.
func (t Table) Select() string {
	return `SELECT ` + t.columns() + ` FROM ` + quote(t.Name)
}

// Insert writes one row.
func (t Table) Insert() string {
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(t.Columns)), ", ")
	return `INSERT INTO ` + quote(t.Name) + ` (` + t.columns() + `) VALUES (` + marks + `)`
}

func (t Table) columns() string {
	quoted := make([]string, len(t.Columns))
	for i, name := range t.Columns {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Match reports the first of the tables that others lack or have with other
// columns. What others have besides is not ours to judge.
func Match(tables, others []Table) error {
	for _, table := range tables {
		i := slices.IndexFunc(others, func(other Table) bool { return other.Name == table.Name })
		if i < 0 {
			return fmt.Errorf("there is no table %s", table.Name)
		}
		if !slices.Equal(slices.Sorted(slices.Values(table.Columns)), slices.Sorted(slices.Values(others[i].Columns))) {
			return fmt.Errorf("the table %s has the columns %q and not %q", table.Name, others[i].Columns, table.Columns)
		}
	}
	return nil
}

// Latest is the newest version among the migrations.
func Latest(files fs.FS) (int64, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	var latest int64
	for _, name := range names {
		version, err := goose.NumericComponent(path.Base(name))
		if err != nil {
			return 0, fmt.Errorf("read migrations: %w", err)
		}
		latest = max(latest, version)
	}
	return latest, nil
}

// A restored database begins without nodes: their leases ended with what they
// ran on, and what they had in hand is due.
const (
	EndAllLeases = `DELETE FROM nodes`
	// ReleaseAll has one argument: now, as Millis.
	ReleaseAll = `
UPDATE deliveries SET node_id = 0, due = CASE WHEN due = 0 OR due > $1 THEN $1 ELSE due END
WHERE node_id <> 0`
)

// AddColumn adds a column to the last table if it has that name, and to a new one
// otherwise.
func AddColumn(tables []Table, table, column string) []Table {
	if n := len(tables); n == 0 || tables[n-1].Name != table {
		tables = append(tables, Table{Name: table})
	}
	last := &tables[len(tables)-1]
	last.Columns = append(last.Columns, column)
	return tables
}

// CheckKnown refuses to copy a schema that is ahead of what this program knows.
func CheckKnown(version, latest int64) error {
	if version > latest {
		return fmt.Errorf("its schema has version %d and this program knows versions up to %d: "+
			"it comes from a newer Waypost, so use that one", version, latest)
	}
	return nil
}
