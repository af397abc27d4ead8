package ingest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

type noCounts struct{}

func (noCounts) Ingested(waypost.SourceKind, Result) {}
func (noCounts) Accepted(waypost.EventState, bool)   {}
func (noCounts) Refused(Refusal)                     {}

// A repeat is told of under the id of the first, and an error is the sender's
// to repair: that is how nothing is lost when telling fails.
func TestAcceptedEventsAreToldAgainWhenRepeated(t *testing.T) {
	t.Parallel()
	b := startCommitter(t, 0)
	go func() {
		for range b.store.entered {
			b.store.release <- nil
		}
	}()
	var told []waypost.EventID
	fail := errors.New("not now")
	in := New(Options{Committer: b.committer, Observer: noCounts{}, OnAccepted: func(_ context.Context, event waypost.Event) error {
		told = append(told, event.ID)
		return fail
	}})
	if err := in.commit(t.Context(), []store.Arrival{arrival("a"), arrival("b")}); !errors.Is(err, fail) {
		t.Fatalf("the sender is not told to come back: %v", err)
	}
	fail = nil
	if err := in.commit(t.Context(), []store.Arrival{arrival("a"), arrival("b")}); err != nil {
		t.Fatal(err)
	}
	stored := b.store.batches[0]
	want := []waypost.EventID{stored[0].Event.ID, stored[0].Event.ID, stored[1].Event.ID}
	if diff := cmp.Diff(want, told); diff != "" || told[0] == 0 {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
}
