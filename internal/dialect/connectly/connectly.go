// Package connectly is the dialect of Connectly: a settings API that registers
// one address per topic of a business, and hooks that tell of one thing each:
// a message, the delivery status of a sent one, or a report that is ready.
//
// The topics are "messages", "delivery_status" and "report", and each has a
// place of its own in the tenant. What the address is sent can be narrowed: to
// channels (all there is here is WhatsApp), and, for delivery statuses, to
// campaigns by name. With echo on, "messages" also tells of what the business
// sent by other means.
//
// A campaign is what the sender of a message put into Meta's
// biz_opaque_callback_data, which comes back with every status. It is not known
// of messages that come in, so filters let those through.
//
// Hooks are signed with the tenant's secret, and go unsigned while there is none.
package connectly

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const id = "connectly"

// The topics. The slot of a topic's endpoint is slotPrefix and the topic.
const (
	topicMessages = "messages"
	topicStatus   = "delivery_status"
	topicReport   = "report"
	slotPrefix    = "topic:"
)

var topics = []string{topicMessages, topicStatus, topicReport}

// The options, as the provider spells its settings. Lists are kept as text:
// channels joined by commas, expressions as a JSON list.
const (
	optionType         = "type"
	optionEcho         = "echo"
	optionChannels     = "channelTypes"
	optionFilters      = "filters"
	optionWebengage    = "webengageToken"
	optionWebengageURL = "webengageWebhookUrl"
	optionContentType  = "content_type"
)

const (
	contentJSON     = "application/json"
	contentText     = "text/plain"
	typeCustom      = "custom"
	typeWebengage   = "webengage"
	channelWhatsApp = "whatsapp"
	fieldCampaign   = "campaign_name" // what filters look at
)

// The events that tell of messages which the business sent by other means.
const (
	typeBusinessEcho = waypost.TypeFieldPrefix + "smb_message_echoes"
	typeMessageEcho  = waypost.TypeFieldPrefix + "message_echoes"
)

var (
	types    = []string{typeCustom, "zapier", typeWebengage, "integromat_make"}
	channels = []string{channelWhatsApp, "sms"}
)

// statuses are Meta's delivery statuses in the provider's words. A voice message
// that was played was read.
var statuses = map[string]string{
	waypost.TypeStatusPrefix + "sent":      "sent",
	waypost.TypeStatusPrefix + "delivered": "delivered",
	waypost.TypeStatusPrefix + "read":      "read",
	waypost.TypeStatusPrefix + "played":    "read",
	waypost.TypeStatusPrefix + "failed":    statusFailed,
}

const statusFailed = "delivery_failed"

// Dialect is Connectly's. The zero value is ready.
type Dialect struct{}

// New makes the dialect.
func New() Dialect { return Dialect{} }

// Info implements dialect.Dialect.
func (Dialect) Info() dialect.Info {
	events := []string{
		waypost.TypeMessagePrefix + "*", typeBusinessEcho, typeMessageEcho, waypost.TypePlatformReport,
	}
	for status := range statuses {
		events = append(events, status)
	}
	slices.Sort(events)
	return dialect.Info{
		ID:     id,
		Title:  "Connectly",
		Docs:   "https://docs.connectly.ai/webhooks/overview",
		Events: events,
		Options: []dialect.Option{
			{
				Name: optionEcho, Type: dialect.OptionFlag, Default: false,
				Doc: "Whether messages that the business sent by other means, such as its phone, are told of too.",
			},
			{
				Name: optionContentType, Type: dialect.OptionText, Default: contentJSON, Enum: []string{contentJSON, contentText},
				Doc: "Media type of the hooks: the JSON that they are, or the text/plain of the provider's own sample.",
			},
			{
				Name: optionType, Type: dialect.OptionText, Default: typeCustom, Enum: types, Internal: true,
				Doc: "What stands behind the address; it makes no difference to the hooks.",
			},
			{
				Name: optionChannels, Type: dialect.OptionText, Internal: true,
				Doc: "The channels told of, separated by commas; none: all.",
			},
			{
				Name: optionFilters, Type: dialect.OptionText, Internal: true,
				Doc: "The names of the campaigns whose delivery statuses are told of, as a JSON list in which \"*\" stands for any text.",
			},
			{
				Name: optionWebengage, Type: dialect.OptionText, Secret: true, Internal: true,
				Doc: "WebEngage's token, kept for the customer's own use.",
			},
			{
				Name: optionWebengageURL, Type: dialect.OptionText, Secret: true, Internal: true,
				Doc: "WebEngage's own address, kept for the customer's own use.",
			},
		},
		Paths:            []string{pathCreate, pathUpdate, pathList, pathDelete},
		CredentialHeader: keyHeader,
		Keys:             &dialect.KeySpec{AccountMember: "business_id", SecretMember: "signing_secret"},
	}
}

// schedule is made once, since every attempt asks for it.
var schedule = []time.Duration{0, 5 * time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour}

// Policy implements dialect.Dialect: status 200 within 5 seconds, and six
// retries over 29 hours.
func (Dialect) Policy(*waypost.Endpoint) waypost.Policy {
	return waypost.Policy{
		Success:  waypost.Success200,
		Timeout:  5 * time.Second,
		Schedule: schedule,
	}
}

// Route implements dialect.Router: the endpoint of the event's topic, if its
// settings let the event through, and each that was made through the management
// API, which has no topic and takes them all.
func (Dialect) Route(event *waypost.Event, endpoints []*waypost.Endpoint) []dialect.Target {
	return dialect.Targets(endpoints, func(e *waypost.Endpoint) bool { return owed(e, event) })
}

// owed looks into the body only where filters need it, since this runs for each
// event that comes in. A body that can't be read is owed: the failure to write
// its hook shows, while what is not owed leaves no trace.
func owed(endpoint *waypost.Endpoint, event *waypost.Event) bool {
	topic := topicOf(event)
	if topic == "" || !lets(endpoint, event, topic) {
		return false
	}
	if topic != topicStatus || endpoint.Options[optionFilters] == nil {
		return true
	}
	change, err := meta.Read(event.Body)
	return err != nil || len(change.Statuses) == 0 || matchAny(filtersOf(endpoint), originOf(&change.Statuses[0]).Campaign)
}

// topicOf is the topic that tells of an event; empty: none does.
func topicOf(event *waypost.Event) string {
	if event.Form == waypost.FormData && event.Type == waypost.TypePlatformReport {
		return topicReport
	}
	switch {
	case event.Form != waypost.FormCloud:
		return ""
	case isEcho(event), strings.HasPrefix(event.Type, waypost.TypeMessagePrefix):
		return topicMessages
	case statuses[event.Type] != "":
		return topicStatus
	default:
		return ""
	}
}

// lets reports whether the endpoint's settings let the event through, whatever
// its campaign.
func lets(endpoint *waypost.Endpoint, event *waypost.Event, topic string) bool {
	if endpoint.Slot != "" && endpoint.Slot != slotPrefix+topic {
		return false
	}
	if isEcho(event) && !endpoint.OptionBool(optionEcho, false) {
		return false
	}
	told := channelsOf(endpoint)
	return topic == topicReport || len(told) == 0 || slices.Contains(told, channelWhatsApp)
}

func isEcho(event *waypost.Event) bool {
	return event.Type == typeBusinessEcho || event.Type == typeMessageEcho
}

func channelsOf(endpoint *waypost.Endpoint) []string {
	text := endpoint.OptionString(optionChannels, "")
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func filtersOf(endpoint *waypost.Endpoint) []string {
	text := endpoint.OptionString(optionFilters, "")
	if text == "" {
		return nil
	}
	var expressions []string
	_ = json.Unmarshal([]byte(text), &expressions) // written by filterText
	return expressions
}

// matchAny reports whether a name fits one of the expressions.
func matchAny(expressions []string, name string) bool {
	return name != "" && slices.ContainsFunc(expressions, func(e string) bool { return match(e, name) })
}

// match compares the whole of a name with an expression in which "*" stands for
// any text. All else, case included, stands for itself.
func match(expression, name string) bool {
	parts := strings.Split(expression, "*")
	if len(parts) == 1 {
		return expression == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return true
}
