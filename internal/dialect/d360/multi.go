package d360

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	maxDestinations    = 3 // beside the main webhook
	maxDestinationName = 100
)

var multiDone = done{Message: "Multi webhook config will be set"}

// multi is a number's further webhooks as they stand.
type multi struct {
	caller
	enabled bool
	clones  []waypost.Endpoint
}

func (c caller) multi(ctx context.Context) (*multi, error) {
	endpoints, err := c.Endpoints(ctx)
	if err != nil {
		return nil, err
	}
	m := &multi{caller: c}
	for _, endpoint := range endpoints {
		switch {
		case endpoint.NumberID != c.number.ID:
		case endpoint.Slot == SlotNumber:
			m.enabled = endpoint.OptionBool(optionMulti, false)
		case strings.HasPrefix(endpoint.Slot, multiPrefix):
			m.clones = append(m.clones, endpoint)
		}
	}
	return m, nil
}

// enabledMulti is multi, and an error where the feature is off.
func (c caller) enabledMulti(ctx context.Context) (*multi, error) {
	m, err := c.multi(ctx)
	if err == nil && !m.enabled {
		err = waypost.Errorf(waypost.KindConflict, `multi webhook is not enabled; POST {"enabled": true} first`)
	}
	return m, err
}

func (m *multi) clonePlace(name string) dialect.Place {
	return dialect.Place{NumberID: m.number.ID, Slot: multiPrefix + name}
}

func (m *multi) clone(name string) *waypost.Endpoint {
	at := slices.IndexFunc(m.clones, func(e waypost.Endpoint) bool { return e.Slot == multiPrefix+name })
	if at < 0 {
		return nil
	}
	return &m.clones[at]
}

func (m *multi) enable(ctx context.Context, on bool) error {
	_, err := m.Change(ctx, m.place(), func(e *waypost.Endpoint) error {
		options := maps.Clone(e.Options)
		if options == nil {
			options = map[string]any{}
		}
		options[optionMulti] = on
		e.Options = options
		return nil
	})
	return err
}

// receiver is a destination as a request gives it.
type receiver struct {
	name    string
	url     string
	headers map[string]waypost.Secret
}

func readReceivers(body dialect.Object) ([]receiver, error) {
	list, err := body.Objects("destinations")
	if err != nil {
		return nil, err
	}
	var receivers []receiver
	for i, object := range list {
		next, err := readReceiver(object)
		if err != nil {
			return nil, dialect.Within(err, fmt.Sprintf("destinations[%d].", i))
		}
		if slices.ContainsFunc(receivers, func(r receiver) bool { return r.name == next.name }) {
			return nil, nameTaken(next.name)
		}
		receivers = append(receivers, next)
	}
	return receivers, nil
}

func readReceiver(object dialect.Object) (receiver, error) {
	name, err := readName(object)
	if err != nil {
		return receiver{}, err
	}
	url, headers, err := readWebhook(object)
	if err == nil && url == "" {
		err = required("url")
	}
	return receiver{name: name, url: url, headers: headers}, err
}

func readName(object dialect.Object) (string, error) {
	name, err := object.String("name")
	switch {
	case err != nil:
		return "", err
	case name == "":
		return "", required("name")
	case len(name) > maxDestinationName || strings.ContainsFunc(name, unicode.IsControl):
		return "", waypost.Invalid(waypost.FieldError{
			Field: "name", Message: fmt.Sprintf("must have at most %d bytes and no control characters", maxDestinationName),
		})
	}
	return name, nil
}

func nameTaken(name string) error {
	return waypost.Errorf(waypost.KindConflict, "there is already a destination named %q", name)
}

func nameUnknown(name string) error {
	return waypost.Errorf(waypost.KindNotFound, "there is no destination named %q", name)
}

func checkCount(n int) error {
	if n <= maxDestinations {
		return nil
	}
	return waypost.Invalid(waypost.FieldError{
		Field: "destinations", Message: fmt.Sprintf("there may be at most %d", maxDestinations),
	})
}

// put sets the destinations, or none of them: if one is refused, those before
// it are put back as they were.
func (m *multi) put(ctx context.Context, receivers []receiver) error {
	for i, r := range receivers {
		if _, err := Set(ctx, m.Account, m.clonePlace(r.name), r.url, r.headers); err != nil {
			m.putBack(ctx, receivers[:i])
			return dialect.Within(err, fmt.Sprintf("destinations[%d].", i))
		}
	}
	return nil
}

// putBack does what it can: the refusal is what the caller must hear of.
func (m *multi) putBack(ctx context.Context, receivers []receiver) {
	for _, r := range receivers {
		if old := m.clone(r.name); old != nil {
			_, _ = Set(ctx, m.Account, placeOf(*old), old.URL, old.Headers)
		} else {
			_ = m.Remove(ctx, m.clonePlace(r.name))
		}
	}
}

// replace makes the destinations all there are.
func (m *multi) replace(ctx context.Context, receivers []receiver) error {
	if err := m.put(ctx, receivers); err != nil {
		return err
	}
	for _, old := range m.clones {
		stays := func(r receiver) bool { return multiPrefix+r.name == old.Slot }
		if slices.ContainsFunc(receivers, stays) {
			continue
		}
		if err := m.remove(ctx, old.Slot); err != nil {
			return err
		}
	}
	return nil
}

func (m *multi) remove(ctx context.Context, slot string) error {
	err := m.Remove(ctx, dialect.Place{NumberID: m.number.ID, Slot: slot})
	if waypost.KindOf(err) == waypost.KindNotFound { // gone meanwhile
		return nil
	}
	return err
}

func getMulti(r *http.Request, c caller) (any, error) {
	m, err := c.multi(r.Context())
	if err != nil {
		return nil, err
	}
	answer := multiWebhook{Enabled: m.enabled, Destinations: []destination{}}
	for _, clone := range m.clones {
		name := strings.TrimPrefix(clone.Slot, multiPrefix)
		answer.Destinations = append(answer.Destinations, destination{Name: name, Webhook: Show(&clone)})
	}
	return answer, nil
}

// switchMulti switches the feature on or off. Destinations outlast being off;
// those given when switching on take the place of all former ones.
func switchMulti(r *http.Request, c caller) (any, error) {
	ctx := r.Context()
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	if !body.Has("enabled") {
		return nil, required("enabled")
	}
	on, err := body.Bool("enabled")
	if err != nil {
		return nil, err
	}
	receivers, err := readReceivers(body)
	if err != nil {
		return nil, err
	}
	if err := checkCount(len(receivers)); err != nil {
		return nil, err
	}
	m, err := c.multi(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case !on && !m.enabled:
		return multiDone, nil
	case on && m.enabled:
		return nil, waypost.Errorf(waypost.KindConflict, "multi webhook is already enabled")
	case on && body.Has("destinations"):
		if err := m.replace(ctx, receivers); err != nil {
			return nil, err
		}
	}
	return multiDone, m.enable(ctx, on)
}

func addDestinations(r *http.Request, c caller) (any, error) {
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	receivers, err := readReceivers(body)
	if err != nil {
		return nil, err
	}
	if len(receivers) == 0 {
		return nil, required("destinations")
	}
	m, err := c.enabledMulti(r.Context())
	if err != nil {
		return nil, err
	}
	for _, receiver := range receivers {
		if m.clone(receiver.name) != nil {
			return nil, nameTaken(receiver.name)
		}
	}
	if err := checkCount(len(m.clones) + len(receivers)); err != nil {
		return nil, err
	}
	return multiDone, m.put(r.Context(), receivers)
}

// changeDestination changes those members of one destination that are given.
func changeDestination(r *http.Request, c caller) (any, error) {
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	name, err := readName(body)
	if err != nil {
		return nil, err
	}
	url, err := body.String("url")
	if err != nil {
		return nil, err
	}
	if body.Has("url") && url == "" {
		return nil, required("url")
	}
	headers, err := body.Headers("headers")
	if err != nil {
		return nil, err
	}
	m, err := c.enabledMulti(r.Context())
	if err != nil {
		return nil, err
	}
	old := m.clone(name)
	if old == nil {
		return nil, nameUnknown(name)
	}
	_, err = m.Change(r.Context(), placeOf(*old), func(e *waypost.Endpoint) error {
		if url != "" {
			e.URL = url
		}
		if headers != nil {
			e.Headers = headers
		}
		return nil
	})
	return multiDone, err
}

func removeDestination(r *http.Request, c caller) (any, error) {
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	name, err := readName(body)
	if err != nil {
		return nil, err
	}
	m, err := c.multi(r.Context())
	if err != nil {
		return nil, err
	}
	if m.clone(name) == nil {
		return nil, nameUnknown(name)
	}
	return multiDone, m.remove(r.Context(), multiPrefix+name)
}
