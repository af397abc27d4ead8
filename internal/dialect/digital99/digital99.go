// Package digital99 is the dialect of 99digital's WhatsApp V2 API: settings of
// one number, set and read with the number's API key, and hooks that flatten
// each event into one object: "new" for a message, "update" for the status of
// a sent one, "system" for a notice about the account.
//
// A number has one webhook. Beside its URL it has switches, all off at first:
// readStatus lets "update" hooks through, system lets "system" hooks through,
// retry gives the receiver six more chances. Settings outlast the URL.
//
// Notices can also go to up to five phones as WhatsApp messages in Hebrew. Each
// phone has an endpoint of its own in a slot "alert:<phone>" whose receiver is
// the Graph API, so that an alert is as durable as a hook and is retried as
// one; what the Graph API says in error.code decides whether that makes sense.
//
// A hook is a pure function of its event. So a status that comes late is passed
// on late: a receiver may see 2 after 3 and has to keep the highest. And one
// event is one hook: a failed message becomes a "system" hook where system is
// on, else the "update" hook with ack 0.
package digital99

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const id = "99digital"

// slotNumber is the slot of a number's webhook; alertPrefix and a phone that of
// the alerts to it.
const (
	slotNumber  = "number"
	alertPrefix = "alert:"
)

// The options, as the provider spells its settings.
const (
	optionSystem     = "system"
	optionReadStatus = "readStatus"
	optionRetry      = "retry"
	optionPhones     = "systemPhoneAlert"
)

const typeFailed = waypost.TypeStatusPrefix + "failed"

// statusTypes are the events that become "update" hooks.
var statusTypes = []string{
	waypost.TypeStatusPrefix + "sent",
	waypost.TypeStatusPrefix + "delivered",
	waypost.TypeStatusPrefix + "read",
	waypost.TypeStatusPrefix + "played",
	typeFailed,
}

// noticeTypes are the events that become notices, as typeFailed does too.
var noticeTypes = []string{
	waypost.TypeFieldPrefix + "account_update",
	waypost.TypeFieldPrefix + "account_alerts",
	waypost.TypeFieldPrefix + "phone_number_quality_update",
	waypost.TypeFieldPrefix + "business_capability_update",
	waypost.TypeFieldPrefix + "message_template_status_update",
	waypost.TypeFieldPrefix + "message_template_quality_update",
}

// Dialect is 99digital's WhatsApp V2.
type Dialect struct{ alerts Alerts }

// New makes the dialect. With zero Alerts, alert phones are kept as a setting
// and nothing is sent to them.
func New(alerts Alerts) Dialect { return Dialect{alerts: alerts} }

// Info implements dialect.Dialect.
func (Dialect) Info() dialect.Info {
	return dialect.Info{
		ID:     id,
		Title:  "99digital WhatsApp V2",
		Docs:   "https://docs.99digital.co.il/whatsapp-api/webhook/webhook",
		Events: slices.Concat([]string{waypost.TypeMessagePrefix + "*"}, statusTypes, noticeTypes),
		Options: []dialect.Option{
			{
				Name: optionSystem, Type: dialect.OptionFlag, Default: false,
				Doc: "Whether notices about the account and failed messages are sent as \"system\" hooks.",
			},
			{
				Name: optionReadStatus, Type: dialect.OptionFlag, Default: false,
				Doc: "Whether the statuses of sent messages are sent as \"update\" hooks.",
			},
			{
				Name: optionRetry, Type: dialect.OptionFlag, Default: false,
				Doc: "Whether a hook that was not received is tried again: at once and after 5 minutes, 20 minutes, 1, 4 and 24 hours.",
			},
			{
				Name: optionPhones, Type: dialect.OptionText, Default: "", Internal: true,
				Doc: "Up to five phones, separated by commas, that get notices as WhatsApp messages.",
			},
		},
		URL:   dialect.URLRules{AllowHTTP: true, MaxLength: 512},
		Paths: []string{pathSet, pathGet},
		Keys:  &dialect.KeySpec{PerNumber: true, AccountIsPhone: true},
	}
}

// schedule is made once, since every attempt asks for it.
var schedule = []time.Duration{0, 5 * time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour}

// Policy implements dialect.Dialect: status 200 within 5 seconds, and the
// provider's ladder where retry is on. Alerts have their own.
func (Dialect) Policy(endpoint *waypost.Endpoint) waypost.Policy {
	if isAlert(endpoint) {
		return alertPolicy()
	}
	policy := waypost.Policy{Success: waypost.Success200, Timeout: 5 * time.Second}
	if endpoint.OptionBool(optionRetry, false) {
		policy.Schedule = schedule
	}
	return policy
}

// Route implements dialect.Router: endpoints with a URL whose settings let the
// event through.
func (d Dialect) Route(event *waypost.Event, endpoints []*waypost.Endpoint) []dialect.Target {
	return dialect.Targets(endpoints, func(e *waypost.Endpoint) bool {
		return (d.alerts.configured() || !isAlert(e)) && owed(e, event)
	})
}

// owed looks into the body only where it must, since this runs for each event
// that comes in. A body that can't be read is owed: the failure to write its
// hook shows, while what is not owed leaves no trace.
func owed(endpoint *waypost.Endpoint, event *waypost.Event) bool {
	if !lets(endpoint, event) {
		return false
	}
	if !isNotice(event) && !bytes.Contains(event.Body, []byte("group")) {
		return true
	}
	change, err := readChange(event)
	return err != nil || fits(endpoint, event, change)
}

// lets reports whether the endpoint's settings let events of this type through.
func lets(endpoint *waypost.Endpoint, event *waypost.Event) bool {
	system := endpoint.OptionBool(optionSystem, false)
	readStatus := endpoint.OptionBool(optionReadStatus, false)
	switch {
	case event.Form != waypost.FormCloud:
		return false
	case isAlert(endpoint):
		return isNotice(event)
	case event.Type == typeFailed:
		return system || readStatus
	case isNotice(event):
		return system
	case isStatus(event):
		return readStatus
	default:
		return isMessage(event)
	}
}

// fits reports whether there is a hook for what the body says. Groups never
// make one; that of an alert that failed itself would chase its own tail.
func fits(endpoint *waypost.Endpoint, event *waypost.Event, change *change) bool {
	switch {
	case change.ofGroup():
		return false
	case isAlert(endpoint) && change.ofAlert():
		return false
	case isNotice(event):
		_, ok := noticeOf(change)
		return ok
	default:
		return true
	}
}

func isAlert(endpoint *waypost.Endpoint) bool { return strings.HasPrefix(endpoint.Slot, alertPrefix) }

func isMessage(event *waypost.Event) bool {
	return strings.HasPrefix(event.Type, waypost.TypeMessagePrefix)
}

func isStatus(event *waypost.Event) bool { return slices.Contains(statusTypes, event.Type) }

func isNotice(event *waypost.Event) bool {
	return event.Type == typeFailed || slices.Contains(noticeTypes, event.Type)
}
