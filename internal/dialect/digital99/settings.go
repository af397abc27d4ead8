package digital99

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	pathSet = "/whatsapp/v2/setWebhook"
	pathGet = "/whatsapp/v2/getWebhook"
)

// The reasons in answers. The provider publishes the first three; of the rest
// it is only known that there are more, one per member.
const (
	reasonOK     = 1
	reasonFrom   = 2 // no number has this phone; also a body that can't be read
	reasonKey    = 3
	reasonURL    = 4
	reasonPhones = 5
	reasonFlag   = 6
	reasonFault  = 99 // our own fault; not a number of the provider's
)

// Alert phones are in Israel, and there are not many.
const (
	maxPhones   = 5
	phonePrefix = "972"
	minPhone    = 10 // digits
	maxPhone    = 15
)

// Handler implements dialect.Dialect.
func (d Dialect) Handler(admin dialect.Admin) http.Handler {
	s := settings{admin: admin, alerts: d.alerts}
	return dialect.Serve(dialect.Routes{
		pathSet: {http.MethodPost: s.set},
		pathGet: {http.MethodPost: s.get},
	}, fail)
}

// fail writes a refusal. The outcome stands in the body and the status is 200,
// except where the path is unknown or we are at fault.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	status, reason := http.StatusOK, reasonFrom
	var refused *dialect.ReasonError
	kind := waypost.KindOf(err)
	switch {
	case errors.As(err, &refused):
		reason = refused.Reason
	case kind == waypost.KindInternal || kind == waypost.KindUnavailable:
		status, reason = dialect.StatusOf(err), reasonFault
	case kind == waypost.KindNotFound:
		status = http.StatusNotFound
	case slices.Contains(dialect.FieldsOf(err), "url"):
		reason = reasonURL
	}
	dialect.WriteJSON(w, status, refusal{Status: "FAIL", Reason: reason})
}

type settings struct {
	admin  dialect.Admin
	alerts Alerts
}

// caller is who makes a call: the account of a key, and the key's number.
type caller struct {
	dialect.Account
	number *waypost.Number
}

// enter reads a call's body and finds out who makes it.
func (s settings) enter(r *http.Request) (caller, dialect.Object, error) {
	body, err := dialect.ReadObject(r)
	if err != nil {
		return caller{}, nil, err
	}
	from := strings.TrimPrefix(textOf(body, "from"), "+")
	if from == "" {
		return caller{}, nil, dialect.Refuse(reasonFrom, "from is missing")
	}
	account, err := s.admin.Authenticate(r.Context(), dialect.Credential{
		Dialect: id, Key: textOf(body, "apiKey"), Account: from, Remote: dialect.Remote(r),
	})
	if err != nil {
		return caller{}, nil, credentialError(err)
	}
	c := caller{Account: account, number: account.Number()}
	if c.number == nil {
		return caller{}, nil, dialect.Refuse(reasonKey, "this key is not the key of a number")
	}
	return c, body, nil
}

func credentialError(err error) error {
	switch waypost.KindOf(err) {
	case waypost.KindNotFound:
		return &dialect.ReasonError{Reason: reasonFrom, Err: err}
	case waypost.KindUnauthorized, waypost.KindForbidden, waypost.KindRateLimited:
		return &dialect.ReasonError{Reason: reasonKey, Err: err}
	default:
		return err
	}
}

// textOf is a member given as text or as a number, without spaces around it.
func textOf(body dialect.Object, name string) string {
	raw := string(body[name])
	if raw == "" || !strings.ContainsRune(`"0123456789`, rune(raw[0])) {
		return ""
	}
	value, err := body.String(name)
	if err != nil {
		value = raw
	}
	return strings.TrimSpace(value)
}

// place is that of the number's webhook.
func (c caller) place() dialect.Place {
	return dialect.Place{NumberID: c.number.ID, Slot: slotNumber}
}

// own are the number's endpoints.
func (c caller) own(ctx context.Context) ([]waypost.Endpoint, error) {
	endpoints, err := c.Endpoints(ctx)
	return slices.DeleteFunc(endpoints, func(e waypost.Endpoint) bool { return e.NumberID != c.number.ID }), err
}

func (s settings) get(r *http.Request) (any, error) {
	c, _, err := s.enter(r)
	if err != nil {
		return nil, err
	}
	own, err := c.own(r.Context())
	if err != nil {
		return nil, err
	}
	webhook := &waypost.Endpoint{}
	for i := range own {
		if own[i].Slot == slotNumber {
			webhook = &own[i]
		}
	}
	return settingsShown{
		Status:           statusOK,
		URL:              webhook.URL,
		System:           strconv.Itoa(flagOf(webhook, optionSystem)),
		SystemPhoneAlert: webhook.OptionString(optionPhones, ""),
		Retry:            flagOf(webhook, optionRetry),
		ReadStatus:       flagOf(webhook, optionReadStatus),
		Reason:           reasonOK,
	}, nil
}

func flagOf(webhook *waypost.Endpoint, option string) int {
	if webhook.OptionBool(option, false) {
		return 1
	}
	return 0
}

// set changes the settings that are given. Should the gateway fail between the
// webhook and its alerts, making the call again completes it.
func (s settings) set(r *http.Request) (any, error) {
	c, body, err := s.enter(r)
	if err != nil {
		return nil, err
	}
	edit, err := readEdit(body)
	if err != nil {
		return nil, err
	}
	webhook, err := c.Change(r.Context(), c.place(), edit.apply)
	if err != nil {
		return nil, err
	}
	phones := webhook.OptionString(optionPhones, "")
	if err := s.setAlerts(r.Context(), c, phones); err != nil {
		return nil, err
	}
	return settingsSet{
		Status:           statusOK,
		URL:              webhook.URL,
		System:           flagOf(&webhook, optionSystem),
		SystemPhoneAlert: phones,
		ReadStatus:       flagOf(&webhook, optionReadStatus),
		Retry:            flagOf(&webhook, optionRetry),
		Reason:           reasonOK,
	}, nil
}

// edit is what a call changes: members that are nil stay as they are.
type edit struct {
	url     *string
	options map[string]any
}

// readEdit reads the settings of a call. A member that is missing or empty
// changes nothing; one of nothing but space clears url and systemPhoneAlert.
func readEdit(body dialect.Object) (edit, error) {
	e := edit{options: map[string]any{}}
	url, given, err := readText(body, "url", reasonURL)
	if err != nil {
		return edit{}, err
	}
	if given {
		e.url = &url
	}
	phones, given, err := readText(body, optionPhones, reasonPhones)
	if err != nil {
		return edit{}, err
	}
	if given {
		if e.options[optionPhones], err = readPhones(phones); err != nil {
			return edit{}, err
		}
	}
	for _, name := range []string{optionSystem, optionReadStatus, optionRetry} {
		switch string(body[name]) {
		case "", "null", `""`:
		case "0", `"0"`:
			e.options[name] = false
		case "1", `"1"`:
			e.options[name] = true
		default:
			return edit{}, dialect.Refuse(reasonFlag, name+" must be 0 or 1")
		}
	}
	return e, nil
}

// readText reads a text member without the spaces around it; given tells the
// space that clears from nothing at all.
func readText(body dialect.Object, name string, reason int) (value string, given bool, err error) {
	value, err = body.String(name)
	if err != nil {
		return "", false, &dialect.ReasonError{Reason: reason, Err: err}
	}
	return strings.TrimSpace(value), value != "", nil
}

// readPhones checks a list of alert phones and gives it without spaces and
// repeats.
func readPhones(list string) (string, error) {
	phones := splitPhones(list)
	if len(phones) > maxPhones {
		return "", dialect.Refuse(reasonPhones, "there may be at most five phones")
	}
	for _, phone := range phones {
		if !validPhone(phone) {
			return "", dialect.Refuse(reasonPhones, "a phone must be digits that start with "+phonePrefix)
		}
	}
	return strings.Join(phones, ","), nil
}

func splitPhones(list string) []string {
	var phones []string
	if list == "" {
		return nil
	}
	for phone := range strings.SplitSeq(list, ",") {
		if phone = strings.TrimSpace(phone); !slices.Contains(phones, phone) {
			phones = append(phones, phone)
		}
	}
	return phones
}

func validPhone(phone string) bool {
	return strings.HasPrefix(phone, phonePrefix) && len(phone) >= minPhone && len(phone) <= maxPhone &&
		digits(phone) == phone
}

func (e edit) apply(webhook *waypost.Endpoint) error {
	if e.url != nil {
		webhook.URL = *e.url
	}
	options := maps.Clone(webhook.Options)
	if options == nil {
		options = map[string]any{}
	}
	maps.Copy(options, e.options)
	webhook.Options = options
	return nil
}

// setAlerts makes the number's alert endpoints those of the phones. They are
// made whether or not a sender is configured yet: one that comes later serves
// them.
func (s settings) setAlerts(ctx context.Context, c caller, list string) error {
	own, err := c.own(ctx)
	if err != nil {
		return err
	}
	wanted := map[string]bool{} // by slot
	for _, phone := range splitPhones(list) {
		wanted[alertPrefix+phone] = true
	}
	for _, old := range own {
		switch {
		case !isAlert(&old):
		case !wanted[old.Slot]:
			if err := c.removeAlert(ctx, old.Slot); err != nil {
				return err
			}
		case old.URL == s.alerts.base():
			delete(wanted, old.Slot)
		}
	}
	for _, phone := range splitPhones(list) {
		if slot := alertPrefix + phone; wanted[slot] {
			if err := c.setAlert(ctx, slot, s.alerts.base()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c caller) setAlert(ctx context.Context, slot, url string) error {
	_, err := c.Change(ctx, dialect.Place{NumberID: c.number.ID, Slot: slot}, func(e *waypost.Endpoint) error {
		e.URL = url
		return nil
	})
	return alertError(err)
}

func (c caller) removeAlert(ctx context.Context, slot string) error {
	err := c.Remove(ctx, dialect.Place{NumberID: c.number.ID, Slot: slot})
	if waypost.KindOf(err) == waypost.KindNotFound { // gone meanwhile
		return nil
	}
	return err
}

// alertError keeps a fault of the configured Graph URL from reading as one of
// the caller's URL.
func alertError(err error) error {
	if err != nil && waypost.KindOf(err) == waypost.KindInvalid {
		return &waypost.Error{Kind: waypost.KindInternal, Message: "the gateway's alerts are not configured well", Err: err}
	}
	return err
}
