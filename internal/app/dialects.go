package app

import (
	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/d360"
	"github.com/waypost-gateway/waypost/internal/dialect/metacloud"
	"github.com/waypost-gateway/waypost/internal/dialect/whizard"
)

// dialects is the list of what this gateway speaks. Where two share a path and
// a request carries the credential of neither, the earlier one answers.
func dialects() []dialect.Dialect {
	return []dialect.Dialect{
		metacloud.New(),
		d360.New(),
		whizard.New(),
	}
}
