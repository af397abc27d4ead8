package d360

import (
	"encoding/json"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// wabaPlace is that of the webhook of the business account the number is in.
func (c caller) wabaPlace() (dialect.Place, error) {
	if c.number.WABAID == "" {
		return dialect.Place{}, waypost.Errorf(waypost.KindNotFound,
			"the number of this key is in no WhatsApp business account that is known here")
	}
	return dialect.Place{WABAID: c.number.WABAID, Slot: slotWABA}, nil
}

// siblings are the numbers of the key's business account, its own included.
func (c caller) siblings(r *http.Request) ([]waypost.Number, error) {
	numbers, err := c.Numbers(r.Context())
	if err != nil {
		return nil, err
	}
	var siblings []waypost.Number
	for _, number := range numbers {
		if number.WABAID == c.number.WABAID {
			siblings = append(siblings, number)
		}
	}
	return siblings, nil
}

func getWABA(r *http.Request, c caller) (any, error) {
	place, err := c.wabaPlace()
	if err != nil {
		return nil, err
	}
	webhook, err := c.find(r.Context(), place)
	if err != nil {
		return nil, err
	}
	siblings, err := c.siblings(r)
	if err != nil {
		return nil, err
	}
	answer := wabaWebhook{Webhook: Show(webhook), WABAID: jsonNumber(place.WABAID), Numbers: []string{}}
	for _, number := range siblings {
		if number.PhoneNumberID != "" {
			answer.Numbers = append(answer.Numbers, number.PhoneNumberID)
		}
	}
	return answer, nil
}

// jsonNumber writes an id as a JSON number without going through a float, and
// as text if it isn't one.
func jsonNumber(id string) any {
	number := json.Number(id)
	if _, err := number.Int64(); err != nil || !json.Valid([]byte(id)) {
		return id
	}
	return number
}

// setWABA sets the webhook of the business account, and with override_all that
// of each of its numbers. If the gateway fails between two numbers, making the
// call again completes it.
func setWABA(r *http.Request, c caller) (any, error) {
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	url, headers, err := readWebhook(body)
	if err != nil {
		return nil, err
	}
	all, err := body.Bool("override_all")
	if err != nil {
		return nil, err
	}
	place, err := c.wabaPlace()
	if err != nil {
		return nil, err
	}
	places := []dialect.Place{place}
	if all {
		siblings, err := c.siblings(r)
		if err != nil {
			return nil, err
		}
		for _, number := range siblings {
			places = append(places, dialect.Place{NumberID: number.ID, Slot: SlotNumber})
		}
	}
	for _, place := range places {
		if _, err := c.set(r.Context(), place, url, headers); err != nil {
			return nil, err
		}
	}
	return done{Message: "Webhook config will be set"}, nil
}
