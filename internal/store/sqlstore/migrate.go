package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/pressly/goose/v3"
)

// floorFact names the fact that says up to which version a program must know the
// schema in order to use the database. Absent, it is 1: migrations expand, and so
// leave the statements of every version before them valid. One that contracts
// raises it in its own transaction, a release after the last that needed what it
// takes away.
const floorFact = "schema_floor"

// Migrate brings the schema up to date. Migrations only go forward, and have the
// same numbers for both databases. A database may be ahead of this program, as it
// is while a newer version is rolled out, as long as this program is not below its
// floor; then it is refused and left alone.
func Migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, files fs.FS, options ...goose.ProviderOption) error {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		return err
	}
	options = append(options, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	provider, err := goose.NewProvider(dialect, db, migrations, options...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	// In a database that is ahead, Up finds nothing to do.
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	floor, err := schemaFloor(ctx, db)
	if err != nil {
		return fmt.Errorf("read the lowest version that may use the database: %w", err)
	}
	if floor > newest {
		return fmt.Errorf("the database needs a program that knows version %d of it, and this one knows versions up to %d: "+
			"it was used by a newer Waypost, so start that one", floor, newest)
	}
	return nil
}

func schemaFloor(ctx context.Context, db *sql.DB) (int64, error) {
	var value string
	err := db.QueryRowContext(ctx, `SELECT value FROM facts WHERE name = $1`, floorFact).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(value, 10, 64)
}
