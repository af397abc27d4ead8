package delivery

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// What is stored sealed is opened for the dialect alone, anew for each attempt;
// what does not open is given up without a request.
func TestOpen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want map[waypost.Reason]int
	}{
		"opens":         {nil, map[waypost.Reason]int{"": 1}},
		"does not open": {errors.New("sealed under another key"), map[waypost.Reason]int{waypost.ReasonEncode: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen []string
				var stored *waypost.Event
				w := newWorld(t, func(config *Config) {
					config.Open = func(event *waypost.Event) (*waypost.Event, error) {
						stored = event
						opened := *event
						opened.Body = []byte("opened " + string(event.Body))
						return &opened, c.err
					}
				})
				w.dialect.policy.Schedule = ladder
				w.dialect.encode = func(item dialect.Item) (dialect.Hook, error) {
					seen = append(seen, string(item.Event.Body))
					return dialect.Hook{Body: item.Event.Body}, nil
				}
				ep := w.endpoint(1)
				w.run()
				w.accept(ep)
				wait(time.Second)
				if diff := cmp.Diff(c.want, w.table.ends()); diff != "" {
					t.Error(diff)
				}
				w.shut()
				want := []string{"opened " + string(stored.Body)}
				if c.err != nil {
					want = nil
				}
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Errorf("the dialect saw (-want +got):\n%s", diff)
				}
			})
		})
	}
}
