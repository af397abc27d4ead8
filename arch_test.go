// Package waypost_test keeps the architecture true: which package may import
// which, and that each says what it is for.
package waypost_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/waypost-gateway/waypost/"

// mayImport is the import table. A package that is not in it fails the test: a
// new folder is a decision, and this is where it is made. "dir/*" stands for
// every folder below dir without a row of its own; "*" allows everything.
var mayImport = map[string][]string{
	"internal/waypost":   {},
	"internal/secret":    {},
	"internal/signature": {},
	"internal/meta":      {"internal/waypost"},
	"internal/egress":    {"internal/waypost"},

	"internal/dialect":             {"internal/waypost"},
	"internal/dialect/*":           {"internal/dialect", "internal/meta", "internal/signature", "internal/waypost"},
	"internal/dialect/whizard":     {"internal/dialect", "internal/dialect/d360", "internal/meta", "internal/waypost"},
	"internal/dialect/dialecttest": {"internal/dialect", "internal/waypost"},

	"internal/store":           {"internal/waypost"},
	"internal/store/sqlstore":  {"internal/store", "internal/waypost"},
	"internal/store/sqlite":    {"internal/store", "internal/store/sqlstore", "internal/waypost"},
	"internal/store/postgres":  {"internal/store", "internal/store/sqlstore", "internal/waypost"},
	"internal/store/life":      {},
	"internal/store/storetest": {"internal/store", "internal/store/life", "internal/waypost"},
	"internal/store/pgserver":  {},
	"internal/store/pgtest":    {"internal/store/pgserver"},

	"internal/directory":  {"internal/dialect", "internal/store", "internal/waypost"},
	"internal/lifecycle":  {"internal/meta", "internal/waypost"},
	"internal/platform":   {"internal/store", "internal/waypost"},
	"internal/settings":   {"internal/dialect", "internal/directory", "internal/lifecycle", "internal/store", "internal/waypost"},
	"internal/node":       {"internal/store", "internal/waypost"},
	"internal/retention":  {"internal/store", "internal/waypost"},
	"internal/ingest":     {"internal/directory", "internal/meta", "internal/signature", "internal/store", "internal/waypost"},
	"internal/delivery":   {"internal/dialect", "internal/egress", "internal/store", "internal/waypost"},
	"internal/api":        {"internal/dialect", "internal/platform", "internal/settings", "internal/store", "internal/waypost"},
	"internal/media":      {"internal/waypost"},
	"internal/metrics":    {"internal/ingest", "internal/waypost"},
	"internal/httpserver": {},
	"internal/logging":    {},
	"internal/config":     {"internal/waypost"},

	"internal/app":         {"*"},
	"internal/app/apptest": {"*"},
	"internal/bench":       {"internal/app", "internal/config", "internal/ingest", "internal/logging", "internal/meta", "internal/store", "internal/store/pgserver", "internal/waypost"},
	"internal/emulator":    {"internal/signature"},
	"internal/backup":      {"internal/store/postgres", "internal/store/sqlite"},
	"internal/cli":         {"internal/app", "internal/bench", "internal/backup", "internal/config", "internal/emulator", "internal/logging", "internal/waypost"},
	"cmd/waypost":          {"internal/cli"},
	"faults":               {},
}

// TestImports reads the files itself rather than asking the go command, so that
// the test cache knows every file the result depends on.
func TestImports(t *testing.T) {
	documented := map[string]bool{}
	for _, root := range []string{"internal", "cmd", "faults"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
			if err != nil {
				return err
			}
			pkg := filepath.ToSlash(filepath.Dir(name))
			documented[pkg] = documented[pkg] || file.Doc != nil
			may, known := mayImport[pkg]
			if !known {
				may, known = mayImport[path.Dir(pkg)+"/*"]
			}
			if !known {
				t.Errorf("%s is not in the import table", pkg)
			}
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				dep, ours := strings.CutPrefix(imported, module)
				if ours && !slices.Contains(may, "*") && !slices.Contains(may, dep) {
					t.Errorf("%s may not import %s", name, dep)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
	for pkg := range mayImport {
		if !strings.HasSuffix(pkg, "/*") && !documented[pkg] {
			t.Errorf("%s is in the import table but has no Go files", pkg)
		}
	}
}
