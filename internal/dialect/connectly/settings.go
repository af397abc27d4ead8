package connectly

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	keyHeader = "X-API-Key"

	pathCreate = "/v1/businesses/{businessId}/create/webhooks"
	pathUpdate = "/v1/businesses/{businessId}/update/webhooks/{webhookId}"
	pathList   = "/v1/businesses/{businessId}/webhooks"
	pathDelete = "/v1/businesses/{businessId}/delete/webhooks/{webhookId}"
)

// Bounds of what a customer may set.
const (
	maxFilters    = 100
	maxExpression = 256 // bytes
)

// Handler implements dialect.Dialect.
func (Dialect) Handler(admin dialect.Admin) http.Handler {
	s := settings{admin: admin}
	return dialect.Serve(dialect.Routes{
		pathCreate: {http.MethodPost: s.create},
		pathUpdate: {http.MethodPut: s.update},
		pathList:   {http.MethodGet: s.list},
		pathDelete: {http.MethodDelete: s.remove},
	}, fail)
}

// fail writes a refusal. Its one shape serves every status.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	message := dialect.MessageOf(err)
	if waypost.KindOf(err) == waypost.KindUnauthorized {
		message = "the API key is missing, or not valid for this business"
	}
	status := dialect.StatusOf(err)
	answer := fault{
		Message: message, Type: typeUnspecified, Code: codeUnspecified,
		UserTitle: message, CntTraceID: "0", Details: json.RawMessage("{}"),
	}
	if status < http.StatusInternalServerError {
		answer.Type = typeInvalidRequest
	}
	dialect.WriteJSON(w, status, answer)
}

type settings struct{ admin dialect.Admin }

// enter finds whom a call is for. A key is good for the paths of its own
// business only.
func (s settings) enter(r *http.Request) (dialect.Account, error) {
	return s.admin.Authenticate(r.Context(), dialect.Credential{
		Dialect: id, Key: r.Header.Get(keyHeader), Account: r.PathValue("businessId"), Remote: dialect.Remote(r),
	})
}

// enterWithBody is enter for a call that has a body, which nobody unknown gets read.
func (s settings) enterWithBody(r *http.Request) (dialect.Account, dialect.Object, error) {
	account, err := s.enter(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := dialect.ReadObject(r)
	return account, body, err
}

func (s settings) create(r *http.Request) (any, error) {
	account, body, err := s.enterWithBody(r)
	if err != nil {
		return nil, err
	}
	topic, err := topicIn(body)
	if err != nil {
		return nil, err
	}
	change, err := readChange(body)
	if err != nil {
		return nil, err
	}
	if change.address == "" {
		return nil, refuse("address", "is required")
	}
	made, err := set(r.Context(), account, topic, func(e *waypost.Endpoint) error {
		if e.URL != "" {
			return waypost.Errorf(waypost.KindConflict,
				"the topic %s has a webhook already; update it with PUT /v1/businesses/%s/update/webhooks/%s",
				topic, r.PathValue("businessId"), webhookID(e))
		}
		e.Options = nil
		change.apply(e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return created{ID: webhookID(&made)}, nil
}

func (s settings) update(r *http.Request) (any, error) {
	account, body, err := s.enterWithBody(r)
	if err != nil {
		return nil, err
	}
	change, err := readChange(body)
	if err != nil {
		return nil, err
	}
	webhook, err := find(r, account)
	if err != nil {
		return nil, err
	}
	if body.Has("topic") {
		if topic, err := topicIn(body); err != nil || topic != topicIs(webhook) {
			return nil, refuse("topic", "can't be changed; delete the webhook and create another")
		}
	}
	_, err = set(r.Context(), account, topicIs(webhook), func(e *waypost.Endpoint) error {
		if e.ID != webhook.ID {
			return errNoWebhook // deleted a moment ago
		}
		change.apply(e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return created{ID: webhookID(webhook)}, nil
}

func (s settings) list(r *http.Request) (any, error) {
	account, err := s.enter(r)
	if err != nil {
		return nil, err
	}
	endpoints, err := account.Endpoints(r.Context())
	if err != nil {
		return nil, err
	}
	answer := listing{Entity: entity{BusinessID: r.PathValue("businessId"), Webhooks: []webhook{}}}
	for i := range endpoints {
		if topicIs(&endpoints[i]) != "" {
			answer.Entity.Webhooks = append(answer.Entity.Webhooks, show(&endpoints[i]))
		}
	}
	return answer, nil
}

func (s settings) remove(r *http.Request) (any, error) {
	account, err := s.enter(r)
	if err != nil {
		return nil, err
	}
	webhook, err := find(r, account)
	if err != nil {
		return nil, err
	}
	if err := account.Remove(r.Context(), place(topicIs(webhook))); err != nil {
		return nil, err
	}
	return struct{}{}, nil
}

func place(topic string) dialect.Place { return dialect.Place{Slot: slotPrefix + topic} }

// topicIs is the topic whose place the endpoint has; empty: none's.
func topicIs(e *waypost.Endpoint) string {
	topic, ok := strings.CutPrefix(e.Slot, slotPrefix)
	if !ok || e.NumberID != 0 || e.WABAID != "" {
		return ""
	}
	return topic
}

// webhookID is the endpoint's id with the provider's prefix.
func webhookID(e *waypost.Endpoint) string {
	return "wh_" + strings.TrimPrefix(e.ID.String(), "ep_")
}

var errNoWebhook = waypost.Errorf(waypost.KindNotFound, "this business has no webhook with this id")

// find gives the webhook that the path names.
func find(r *http.Request, account dialect.Account) (*waypost.Endpoint, error) {
	endpoints, err := account.Endpoints(r.Context())
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(endpoints, func(e waypost.Endpoint) bool {
		return webhookID(&e) == r.PathValue("webhookId") && topicIs(&e) != ""
	})
	if at < 0 {
		return nil, errNoWebhook
	}
	return &endpoints[at], nil
}

// set edits the endpoint of a topic. The provider's word for its URL is address.
func set(ctx context.Context, account dialect.Account, topic string, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error) {
	endpoint, err := account.Change(ctx, place(topic), edit)
	var e *waypost.Error
	if !errors.As(err, &e) || e.Kind != waypost.KindInvalid || len(e.Fields) == 0 {
		return endpoint, err
	}
	fields := slices.Clone(e.Fields)
	for i := range fields {
		if fields[i].Field == "url" {
			fields[i].Field = "address"
		}
	}
	return endpoint, waypost.Invalid(fields...)
}

// change is what a request sets: nil and empty members stay as they are.
type change struct {
	address   string
	kind      string
	echo      *bool
	channels  *[]string
	filters   *[]string
	webengage map[string]string // by option
}

func (c *change) apply(e *waypost.Endpoint) {
	e.URL = cmp.Or(c.address, e.URL)
	if e.Options == nil {
		e.Options = map[string]any{}
	}
	if c.kind != "" {
		e.Options[optionType] = c.kind
	}
	if c.echo != nil {
		e.Options[optionEcho] = *c.echo
	}
	if c.channels != nil {
		setText(e, optionChannels, strings.Join(*c.channels, ","))
	}
	if c.filters != nil {
		setText(e, optionFilters, filterText(*c.filters))
	}
	for option, text := range c.webengage {
		setText(e, option, text)
	}
}

func setText(e *waypost.Endpoint, option, text string) {
	if text == "" {
		delete(e.Options, option)
		return
	}
	e.Options[option] = text
}

// filterText is how an option keeps expressions; empty for none.
func filterText(expressions []string) string {
	if len(expressions) == 0 {
		return ""
	}
	text, err := dialect.EncodeJSON(expressions)
	if err != nil {
		panic(fmt.Sprintf("write filters: %v", err)) // a list of texts
	}
	return string(text)
}

// The provider's clients write members as its pages do, channelTypes, or as the
// messages behind them are declared, channel_types. Where both are given the
// former counts.

func spelling(body dialect.Object, camel string) string {
	var snake strings.Builder
	for _, r := range camel {
		if 'A' <= r && r <= 'Z' {
			snake.WriteByte('_')
			r += 'a' - 'A'
		}
		snake.WriteRune(r)
	}
	if !body.Has(camel) && body.Has(snake.String()) {
		return snake.String()
	}
	return camel
}

func topicIn(body dialect.Object) (string, error) {
	topic, err := body.String("topic")
	if err == nil && !slices.Contains(topics, topic) {
		err = refuse("topic", "must be one of: "+strings.Join(topics, ", "))
	}
	return topic, err
}

func readChange(body dialect.Object) (*change, error) {
	var c change
	var err error
	if c.address, err = body.String("address"); err != nil {
		return nil, err
	}
	if body.Has("address") && c.address == "" {
		return nil, refuse("address", "must not be empty")
	}
	if c.kind, err = body.String("type"); err != nil {
		return nil, err
	}
	if c.kind == "webhook_type_unspecified" {
		c.kind = ""
	}
	if c.kind != "" && !slices.Contains(types, c.kind) {
		return nil, refuse("type", "must be one of: "+strings.Join(types, ", "))
	}
	configuration, err := object(body, "configuration")
	if err != nil {
		return nil, err
	}
	if err := c.readConfiguration(configuration); err != nil {
		return nil, dialect.Within(err, "configuration.")
	}
	return &c, nil
}

func (c *change) readConfiguration(configuration dialect.Object) error {
	if configuration.Has("echo") {
		echo, err := configuration.Bool("echo")
		if err != nil {
			return err
		}
		c.echo = &echo
	}
	if err := c.readChannels(configuration); err != nil {
		return err
	}
	if err := c.readFilters(configuration); err != nil {
		return err
	}
	return c.readWebengage(configuration)
}

func (c *change) readChannels(configuration dialect.Object) error {
	name := spelling(configuration, optionChannels)
	if !configuration.Has(name) {
		return nil
	}
	var given []string
	if json.Unmarshal(configuration[name], &given) != nil {
		return refuse(name, "must be a list of strings")
	}
	told := []string{}
	for _, channel := range given {
		if !slices.Contains(channels, channel) {
			return refuse(name, "may hold: "+strings.Join(channels, ", "))
		}
		if !slices.Contains(told, channel) {
			told = append(told, channel)
		}
	}
	c.channels = &told
	return nil
}

func (c *change) readFilters(configuration dialect.Object) error {
	if !configuration.Has(optionFilters) {
		return nil
	}
	filters, err := configuration.Objects(optionFilters)
	if err != nil {
		return err
	}
	if len(filters) > maxFilters {
		return refuse(optionFilters, fmt.Sprintf("may hold at most %d", maxFilters))
	}
	expressions := []string{}
	for i, filter := range filters {
		expression, err := readFilter(filter)
		if err != nil {
			return dialect.Within(err, fmt.Sprintf("%s[%d].", optionFilters, i))
		}
		expressions = append(expressions, expression)
	}
	c.filters = &expressions
	return nil
}

func readFilter(filter dialect.Object) (expression string, err error) {
	field, err := filter.String("field")
	if err != nil {
		return "", err
	}
	if field != fieldCampaign {
		return "", refuse("field", "must be "+fieldCampaign)
	}
	if expression, err = filter.String("expression"); err != nil {
		return "", err
	}
	if expression == "" || len(expression) > maxExpression {
		return "", refuse("expression", fmt.Sprintf("must have 1 to %d bytes", maxExpression))
	}
	return expression, nil
}

func (c *change) readWebengage(configuration dialect.Object) error {
	name := spelling(configuration, "webengageConfiguration")
	given, err := object(configuration, name)
	if err != nil || given == nil {
		return err
	}
	c.webengage = map[string]string{}
	for _, option := range []string{optionWebengage, optionWebengageURL} {
		member := spelling(given, option)
		if !given.Has(member) {
			continue
		}
		if c.webengage[option], err = given.String(member); err != nil {
			return dialect.Within(err, name+".")
		}
	}
	return nil
}

// object is a member that is an object; nil when it is absent.
func object(body dialect.Object, name string) (dialect.Object, error) {
	var member dialect.Object
	if body.Has(name) && json.Unmarshal(body[name], &member) != nil {
		return nil, refuse(name, "must be an object")
	}
	return member, nil
}

func refuse(member, message string) error {
	return waypost.Invalid(waypost.FieldError{Field: member, Message: message})
}

// show gives an endpoint as the settings API shows it, WebEngage's token in
// clear as there.
func show(e *waypost.Endpoint) webhook {
	shown := webhook{ID: webhookID(e), Topic: topicIs(e), Address: e.URL, Configuration: configuration{
		Echo: e.OptionBool(optionEcho, false), ChannelTypes: []string{}, Filters: []filter{},
	}}
	shown.Configuration.ChannelTypes = append(shown.Configuration.ChannelTypes, channelsOf(e)...)
	for _, expression := range filtersOf(e) {
		shown.Configuration.Filters = append(shown.Configuration.Filters, filter{Field: fieldCampaign, Expression: expression})
	}
	if e.OptionString(optionType, typeCustom) == typeWebengage {
		shown.Configuration.Webengage = &webengage{
			Token: e.OptionString(optionWebengage, ""), WebhookURL: e.OptionString(optionWebengageURL, ""),
		}
	}
	return shown
}
