package app

import (
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/connectly"
	"github.com/waypost-gateway/waypost/internal/dialect/d360"
	"github.com/waypost-gateway/waypost/internal/dialect/digital99"
	"github.com/waypost-gateway/waypost/internal/dialect/metacloud"
	"github.com/waypost-gateway/waypost/internal/dialect/partner99"
	"github.com/waypost-gateway/waypost/internal/dialect/standard"
	"github.com/waypost-gateway/waypost/internal/dialect/whizard"
)

// dialects is the list of what this gateway speaks. Where two share a path and
// a request carries the credential of neither, the earlier one answers.
func dialects(c *config.Config) []dialect.Dialect {
	return []dialect.Dialect{
		metacloud.New(),
		d360.New(),
		whizard.New(),
		digital99.New(alerts(c)),
		partner99.New(),
		connectly.New(),
		standard.New(),
	}
}

// alerts is how 99digital's system alerts are sent.
func alerts(c *config.Config) digital99.Alerts {
	if c.AlertPhoneNumberID == "" || c.AlertToken == "" {
		return digital99.Alerts{}
	}
	return digital99.Alerts{
		GraphURL:      c.GraphURL,
		Version:       graphVersion,
		PhoneNumberID: c.AlertPhoneNumberID,
		Token:         c.AlertToken,
		Template:      c.AlertTemplate,
	}
}
