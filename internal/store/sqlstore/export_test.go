package sqlstore

// Queries whose plans are tested: they must not read all that is owed.
var Queries = map[string]string{
	"backlog":      backlogQuery,
	"drop free":    dropQueries[0],
	"drop waiting": dropQueries[1],
	"release":      releaseQuery,
}
