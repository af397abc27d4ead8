package postgres

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func drawNotice(t *rapid.T) store.Notice {
	return store.Notice{Due: rapid.SliceOf(rapid.Custom(func(t *rapid.T) waypost.EndpointID {
		return waypost.EndpointID(rapid.Int64Min(1).Draw(t, "endpoint"))
	})).Draw(t, "due")}
}

func TestNoticesComeBackFromTheirPayloads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := drawNotice(t)
		payload := encodeNotice(n)
		if len(payload) > maxPayload {
			t.Fatalf("a payload of %d bytes", len(payload))
		}
		want := n
		if payload == "" || len(n.Due) == 0 {
			want = store.Notice{}
		}
		if diff := cmp.Diff(want, decodeNotice(payload)); diff != "" {
			t.Fatalf("notice (-want +got):\n%s", diff)
		}
	})
}

func TestPayloadsThatMeanAnything(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		"", "due", "DUE 1", "settings 1", "due 1 !", "due 1 -", "due 1 zzzzzzzzzzzzzzzz", `{"due":[1]}`,
	} {
		if n := decodeNotice(payload); len(n.Due) > 0 {
			t.Errorf("%q names %v", payload, n.Due)
		}
	}
	fits := make([]waypost.EndpointID, maxPayload/14)
	for i := range fits {
		fits[i] = math.MaxInt64 - waypost.EndpointID(i) // 13 digits each
	}
	if got := decodeNotice(encodeNotice(store.Notice{Due: fits[:560]})).Due; !slices.Equal(got, fits[:560]) {
		t.Errorf("%d endpoints came back, want 560", len(got))
	}
	if payload := encodeNotice(store.Notice{Due: append(fits, fits...)}); payload != "" {
		t.Errorf("too many endpoints became %d bytes", len(payload))
	}
}

// TestMailboxLosesNothing puts notices from several sides while one reader takes
// them: it reads all that was named, or "anything" after it.
func TestMailboxLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		box := make(mailbox, 1)
		notices := rapid.SliceOfN(rapid.Custom(drawNotice), 1, 20).Draw(t, "notices")
		var group sync.WaitGroup
		for _, n := range notices {
			group.Go(func() { box.put(n) })
		}
		read := make(chan []store.Notice)
		go func() {
			var all []store.Notice
			for n := range box {
				all = append(all, n)
			}
			read <- all
		}()
		group.Wait()
		close(box)
		heard := map[waypost.EndpointID]bool{}
		anything := false
		for _, n := range <-read {
			anything = anything || len(n.Due) == 0
			for _, endpoint := range n.Due {
				heard[endpoint] = true
			}
		}
		for _, n := range notices {
			if len(n.Due) == 0 && !anything {
				t.Fatal("\"anything\" was lost")
			}
			for _, endpoint := range n.Due {
				if !heard[endpoint] && !anything {
					t.Fatalf("%s was lost", endpoint)
				}
			}
		}
	})
}

func TestUnreadNoticesMerge(t *testing.T) {
	t.Parallel()
	box := make(mailbox, 1)
	box.put(store.Notice{Due: []waypost.EndpointID{3, 1}})
	box.put(store.Notice{Due: []waypost.EndpointID{2, 3}})
	if diff := cmp.Diff(store.Notice{Due: []waypost.EndpointID{1, 2, 3}}, <-box); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	box.put(store.Notice{Due: []waypost.EndpointID{1}})
	box.put(store.Notice{})
	box.put(store.Notice{Due: []waypost.EndpointID{1}})
	if got := <-box; len(got.Due) > 0 {
		t.Errorf("%v is left of \"anything\"", got.Due)
	}
}
