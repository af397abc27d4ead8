package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// devStep is one webhook that Meta sends, or one event that the platform
// publishes.
type devStep struct {
	event, what string // for the table
	items       []emulator.Item
	published   map[string]any // data of the one item, if it does not come from Meta
	repeat      bool           // it was sent before: nobody is owed anything
}

// steps writes the play: each kind of traffic once.
func (s *devStage) steps() ([]devStep, error) {
	numbers := s.meta.Numbers()
	first, second := numbers[0], numbers[1]
	text := s.meta.Text(first, "Grüße aus Bath 🧵")
	steps := []devStep{stepOf("text", text)}
	for _, name := range []string{"image", "button_reply", "location"} {
		item, err := s.meta.Item(first, name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, stepOf(name, item))
	}
	sent := s.meta.NewSent(first)
	for _, status := range []string{"sent", "delivered", "read"} {
		steps = append(steps, stepOf("of one message", s.meta.Status(sent, status)))
	}
	failed := s.meta.Status(s.meta.NewSent(first), "failed")
	return append(
		steps,
		stepOf("of another message", failed),
		devStep{event: "batch", what: "2 messages for 2 numbers", items: []emulator.Item{
			s.meta.Text(first, "Two for one"), s.meta.Text(second, "One for two"),
		}},
		devStep{
			event: "platform.whatsapp", what: "published through the API",
			items: []emulator.Item{{Type: "platform.whatsapp", Number: first}},
			published: map[string]any{
				"whatsapp": first.Phone, "whatsapp_reference": "cust-77", "whatsapp_extra_info": 3, "daily_limit": 2000,
			},
		},
		devStep{event: "message.text", what: "the first one once more", items: []emulator.Item{text}, repeat: true},
	), nil
}

func stepOf(what string, item emulator.Item) devStep {
	return devStep{event: shortType(item.Type), what: what, items: []emulator.Item{item}}
}

// shortType is an event's type without the part that nearly all have.
func shortType(eventType string) string { return strings.TrimPrefix(eventType, "whatsapp.") }

// play sends the steps and gives the receivers a moment after each, so that the
// table reads as a story. It reports what was not taken in as it must be.
func (s *devStage) play(ctx context.Context, steps []devStep) (faults []string) {
	for i, step := range steps {
		s.table.ahead(func() devRow {
			row := devRow{at: time.Now(), flow: "Meta ->", event: step.event, what: step.what}
			send := s.send
			if step.published != nil {
				row.flow, send = "Platform ->", s.publish
			}
			var err error
			if row.try, row.answer, err = send(ctx, step); err != nil {
				faults = append(faults, fmt.Sprintf("step %d (%s) was not taken in: %v", i+1, step.event, err))
			}
			return row
		})
		s.await(ctx, steps[:i+1])
	}
	return faults
}

// send plays Meta. That it has to try twice is an error too.
func (s *devStage) send(ctx context.Context, step devStep) (try, answer string, err error) {
	statuses, err := s.meta.Deliver(ctx, emulator.Body(step.items...), emulator.Retry{Tries: 3})
	if err == nil && len(statuses) > 1 {
		err = fmt.Errorf("it was answered %v, want 200 at once", statuses)
	}
	return strconv.Itoa(len(statuses)), strconv.Itoa(statuses[len(statuses)-1]), err
}

// publish plays the platform that the gateway belongs to.
func (s *devStage) publish(ctx context.Context, step devStep) (try, answer string, err error) {
	err = s.api.manage(ctx, http.MethodPost, "/api/v1/events", map[string]any{
		"tenant_id": s.tenant, "number_id": s.numbers[0], "type": step.items[0].Type, "data": step.published,
	}, nil)
	if err != nil {
		return "1", "", err
	}
	return "1", strconv.Itoa(http.StatusAccepted), nil
}

// await waits until every receiver has what it is owed so far, but not for
// long: whether all is right is judged at the end.
func (s *devStage) await(ctx context.Context, steps []devStep) {
	const moment = time.Second
	ctx, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	for _, st := range s.stations {
		owed := len(s.owed(st, steps))
		_, err := st.receiver.WaitFor(ctx, func(hooks []emulator.Request) bool { return countReceived(hooks) >= owed })
		if err != nil {
			return
		}
	}
}

func countReceived(hooks []emulator.Request) int {
	received := 0
	for _, hook := range hooks {
		if hook.Answer.Received() {
			received++
		}
	}
	return received
}

// settle waits until the gateway owes none of the receivers anything: from then
// on nothing more can arrive.
func (s *devStage) settle(ctx context.Context) error {
	for _, st := range s.stations {
		for _, endpoint := range st.endpoints {
			if err := s.settleOne(ctx, endpoint); err != nil {
				return fmt.Errorf("wait until nothing is owed to %s: %w", st.dialect.id, err)
			}
		}
	}
	return nil
}

func (s *devStage) settleOne(ctx context.Context, endpoint string) error {
	query := url.Values{"endpoint_id": {endpoint}, "state": {"pending"}, "limit": {"1"}}
	return poll(ctx, 50*time.Millisecond, func() (bool, error) {
		var list devList
		err := s.api.manage(ctx, http.MethodGet, "/api/v1/deliveries?"+query.Encode(), nil, &list)
		return len(list.Data) == 0, err
	})
}

// events lists the tenant's events, newest first.
func (s *devStage) events(ctx context.Context) (list devList, err error) {
	query := url.Values{"tenant_id": {s.tenant}, "limit": {"1000"}}
	err = s.api.manage(ctx, http.MethodGet, "/api/v1/events?"+query.Encode(), nil, &list)
	return list, err
}
