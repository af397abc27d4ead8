package postgres_test

import (
	"database/sql"
	"io/fs"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
)

// database is an empty one, with a way in beside the store.
func database(t *testing.T) storetest.Database {
	t.Helper()
	url := pgtest.URL(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return storetest.Database{
		Kind: "postgres", DB: db, Migrations: os.DirFS("."),
		Migrate: func(files fs.FS) error {
			return sqlstore.Migrate(t.Context(), goose.DialectPostgres, db, files)
		},
		Open: func() (store.Store, error) {
			return postgres.Open(t.Context(), postgres.Options{URL: url, Sealer: storetest.Sealer()})
		},
	}
}

func TestUpgradeFromFirstVersion(t *testing.T) {
	t.Parallel()
	storetest.Upgrade(t, database(t))
}

func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	storetest.Newer(t, database)
}
