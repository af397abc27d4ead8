package sqlite_test

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
)

// database is an empty one, with a way in beside the store.
func database(t *testing.T) storetest.Database {
	t.Helper()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "waypost.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return storetest.Database{
		Kind: "sqlite", DB: db, Alone: true, Migrations: os.DirFS("."),
		Migrate: func(files fs.FS) error {
			return sqlstore.Migrate(t.Context(), goose.DialectSQLite3, db, files)
		},
		Open: func() (store.Store, error) {
			return sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Sealer: storetest.Sealer()})
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
