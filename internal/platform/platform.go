// Package platform knows the events that the platform around the gateway
// publishes under "platform.": what became of WhatsApp numbers, builders,
// accounts of the inbox, and reports. Their data has a provider's own member
// names and is written into hooks as it is, so it is checked at the door:
// members that a hook can't do without, types, and ranges. Members that nobody
// knows are let through.
//
// One member is a secret, the API key of a number. A Vault seals it before the
// event is stored and opens it when a hook is written; what is shown to people
// has a placeholder there. A value that does not open (the key it was sealed
// under is gone) makes no hook, and the delivery ends visibly.
package platform

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// prefix begins the types that have a form of their own here.
const prefix = "platform."

// reserved are types that a provider has announced and not described.
var reserved = []string{"platform.partners", "platform.package", "partners", "package"}

// rule is what a member must be.
type rule struct {
	name     string
	required bool
	fits     func(value json.RawMessage) bool
	says     string
	members  []rule // of an object
}

// forms are the members of each type that are checked.
var forms = map[string][]rule{
	waypost.TypePlatformWhatsApp: {
		{name: "whatsapp", required: true, fits: isPhone, says: "must be the number's phone, as a string of 5 to 15 digits"},
		code("whatsapp_extra_info", 5),
		text("whatsapp_reference"),
		{name: "daily_limit", fits: isCount, says: "must be a whole number, 0 or more"},
		text(memberAPIKey),
	},
	waypost.TypePlatformBuilder: {
		code("builder_extra_info", 4),
		id("builderID"),
		text("builder_url"),
		text("builder_reference"),
	},
	waypost.TypePlatformOnline: {
		code("online_extra_info", 7),
		id("accountID"),
		id("agentID"),
		id("inboxID"),
		text("server"),
		text("online_reference"),
	},
	waypost.TypePlatformReport: report,
}

// report are the members of a report, and reportHook those of data that has one
// in its member "report".
var (
	report = []rule{
		{name: "id", required: true, fits: isText, says: "must be a string"},
		text("name"),
		text("type"),
		object("last_run",
			text("id"),
			rule{name: "status", fits: isCompleted, says: `must be "completed": a report is told of once it is ready`},
			object("result", text("url"), text("expires_at"), text("created_at")),
		),
	}
	reportHook = []rule{text("timestamp"), object("report", report...)}
)

func code(name string, most int) rule {
	return rule{name: name, required: true, says: fmt.Sprintf("must be a number from 1 to %d", most), fits: func(value json.RawMessage) bool {
		return len(value) == 1 && value[0] >= '1' && int(value[0]-'0') <= most
	}}
}

func text(name string) rule { return rule{name: name, fits: isText, says: "must be a string"} }

func id(name string) rule {
	return rule{name: name, fits: isCount, says: "must be a whole number of at most 18 digits"}
}

func object(name string, members ...rule) rule {
	return rule{name: name, fits: isObject, says: "must be an object", members: members}
}

func isText(value json.RawMessage) bool { return value[0] == '"' }

func isObject(value json.RawMessage) bool { return value[0] == '{' }

var count = regexp.MustCompile(`^[0-9]{1,18}$`)

func isCount(value json.RawMessage) bool { return count.Match(value) }

var phone = regexp.MustCompile(`^"[0-9]{5,15}"$`)

func isPhone(value json.RawMessage) bool { return phone.Match(value) }

func isCompleted(value json.RawMessage) bool { return string(value) == `"completed"` }

// Check tells what is wrong with an event of the platform, by member: "type",
// "data", or "data." and what is inside. Other types it lets pass.
func Check(eventType string, data []byte) []waypost.FieldError {
	switch {
	case slices.Contains(reserved, eventType):
		return []waypost.FieldError{{Field: "type", Message: "is reserved: the provider has not said yet what such an event holds"}}
	case !strings.HasPrefix(eventType, prefix):
		return nil
	}
	members, err := readMembers(data)
	if err != nil {
		return []waypost.FieldError{{Field: "data", Message: "must be an object for platform.* types"}}
	}
	rules := forms[eventType]
	if eventType == waypost.TypePlatformReport && len(named(members, "report")) > 0 {
		rules = reportHook
	}
	return check("data", members, rules)
}

// check checks the members of the object at a place.
func check(at string, members []member, rules []rule) []waypost.FieldError {
	var faults []waypost.FieldError
	for _, rule := range rules {
		found := named(members, rule.name)
		if fault := rule.fault(found); fault != "" {
			faults = append(faults, waypost.FieldError{Field: at + "." + rule.name, Message: fault})
		} else if len(found) > 0 && rule.members != nil {
			inner, _ := readMembers(found[0].value) // null has none
			faults = append(faults, check(at+"."+rule.name, inner, rule.members)...)
		}
	}
	return faults
}

// named are the members with the name, in whatever case.
func named(members []member, name string) []member {
	var found []member
	for _, m := range members {
		if strings.EqualFold(m.name, name) {
			found = append(found, m)
		}
	}
	return found
}

// fault tells what is wrong with the members of the rule's name; "": nothing.
// null is as good as absent. A name that differs in case, or comes twice, is
// refused: readers would not agree on what it means.
func (r rule) fault(found []member) string {
	switch {
	case len(found) > 1:
		return "is there more than once"
	case len(found) == 1 && found[0].name != r.name:
		return "must be spelt " + r.name
	case len(found) == 1 && string(found[0].value) != "null":
		if !r.fits(found[0].value) {
			return r.says
		}
	case r.required:
		return "is missing: it " + r.says
	}
	return ""
}
