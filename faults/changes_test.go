package faults_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestChangesUnderWay pauses, disables, moves, re-keys and deletes endpoints in
// the middle of queued attempts. What is queued is held, moved or ended as
// docs/states.md says, and never just gone.
func TestChangesUnderWay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		nodes    int
		database func(*testing.T) string
	}{
		{"SQLite", 1, func(*testing.T) string { return "" }},
		{"PostgreSQL, three nodes", 3, func(t *testing.T) string { t.Helper(); return pgtest.URL(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, newGateway(t, gatewayOptions{Database: c.database(t), Nodes: c.nodes}))
			l := s.loadEvery(t, 200*time.Millisecond) // a resume takes its time, and lets little through at first
			changes := 0
			for range pick(1, 10) {
				for _, change := range []func(*testing.T){s.pause, s.answerGone, s.move, s.rekey} {
					change(t)
					changes++
				}
			}
			l.stop(t)
			s.awaitEverything(t)
			ended := s.remove(t)
			s.expectOnce(t)
			s.report(t, "pause, 410, new URL, new key, delete, under load; "+c.name,
				fmt.Sprintf("%d changes; %d deliveries ended with the deleted endpoint, all listed", changes+1, ended))
		})
	}
}

// queue has the receiver refuse what comes to a path until a number of
// deliveries is owed there.
func (s *scene) queue(t *testing.T, path string, n int) {
	t.Helper()
	s.receiver.at(path, answering(http.StatusServiceUnavailable))
	within(t, time.Minute, func() error {
		if missing, _ := s.missing(path, s.newest()); missing < n {
			return fmt.Errorf("%d deliveries are owed to %s, want %d", missing, path, n)
		}
		return nil
	})
}

// pause holds: nothing arrives until it is resumed, then all does.
func (s *scene) pause(t *testing.T) {
	t.Helper()
	s.queue(t, pathWhizard, 50)
	s.call(t, http.MethodPost, "/api/v1/endpoints/"+s.endpoints[pathWhizard]+"/pause", "")
	s.awaitState(t, pathWhizard, "paused")
	s.receiver.at(pathWhizard, nil)
	s.expectHeld(t, pathWhizard)
	s.call(t, http.MethodPost, "/api/v1/endpoints/"+s.endpoints[pathWhizard]+"/resume", "")
	s.awaitCaughtUp(t, pathWhizard)
}

// answerGone disables: a receiver of the standard dialect answers 410.
func (s *scene) answerGone(t *testing.T) {
	t.Helper()
	s.queue(t, pathStandard, 50)
	s.receiver.at(pathStandard, answering(http.StatusGone))
	s.awaitState(t, pathStandard, "disabled")
	s.receiver.at(pathStandard, nil)
	s.expectHeld(t, pathStandard)
	s.call(t, http.MethodPost, "/api/v1/endpoints/"+s.endpoints[pathStandard]+"/resume", "")
	s.awaitCaughtUp(t, pathStandard)
}

// move changes the URL: what was queued for the old one goes to the new one.
func (s *scene) move(t *testing.T) {
	t.Helper()
	s.queue(t, pathMeta, 50)
	moved := newReceiver(t, s.ledger)
	s.patch(t, pathMeta, fmt.Sprintf(`{"url":%q}`, moved.URL+pathMeta))
	s.awaitCaughtUp(t, pathMeta) // the old receiver still refuses
	s.receiver.at(pathMeta, nil)
	s.patch(t, pathMeta, fmt.Sprintf(`{"url":%q}`, s.receiver.URL+pathMeta))
	s.awaitSettings(t)
}

// rekey makes a new 360dialog key: the webhook's URL is removed with the old
// one, what was queued is held, and goes to the URL that is set with the new key.
// What comes in meanwhile is owed to no main webhook, so the load has to rest.
func (s *scene) rekey(t *testing.T) {
	t.Helper()
	s.awaitCaughtUp(t, pathMain)
	s.resting.Lock()
	s.receiver.at(pathMain, answering(http.StatusServiceUnavailable))
	for range 20 {
		s.post(t, 5)
	}
	old := s.d360
	s.d360 = http.Header{"D360-Api-Key": {s.newKey(t, "360dialog")}}
	if url := s.endpoint(t, pathMain)["url"]; url != "" {
		t.Errorf("a new key left the webhook's URL at %v", url)
	}
	s.awaitSettings(t)
	s.receiver.at(pathMain, nil)
	s.expectHeld(t, pathMain)
	for _, n := range s.nodes {
		within(t, againWithin, func() error {
			status, _, err := n.do(t.Context(), http.MethodGet, "/v1/configs/webhook", old, "")
			if err != nil || status != http.StatusUnauthorized {
				return fmt.Errorf("node %s answers %d to a key that was replaced: %w", n.name, status, err)
			}
			return nil
		})
	}
	s.callWith(t, s.d360, http.MethodPost, "/v1/configs/webhook", fmt.Sprintf(`{"url":%q}`, s.receiver.URL+pathMain))
	s.awaitSettings(t)
	s.awaitCaughtUp(t, pathMain)
	s.resting.Unlock()
}

// remove deletes an endpoint that is owed something: each delivery ends, and is
// listed as exhausted with the reason.
func (s *scene) remove(t *testing.T) (ended int) {
	t.Helper()
	const owed = 200
	s.receiver.at(pathMeta, answering(http.StatusServiceUnavailable))
	for range owed / 10 {
		s.post(t, 10)
	}
	id := s.endpoints[pathMeta]
	s.call(t, http.MethodDelete, "/api/v1/endpoints/"+id, "")
	within(t, 30*time.Second, func() error {
		ended = 0
		for _, delivery := range s.list(t, "/api/v1/deliveries?endpoint_id="+id+"&state=exhausted") {
			if delivery["reason"] == "endpoint_deleted" {
				ended++
			}
		}
		if ended != owed {
			return fmt.Errorf("%d deliveries ended with the endpoint, want %d", ended, owed)
		}
		return nil
	})
	for _, state := range []string{"pending", "held"} {
		if left := s.list(t, "/api/v1/deliveries?endpoint_id="+id+"&state="+state); len(left) > 0 {
			t.Errorf("%d deliveries of a deleted endpoint are %s", len(left), state)
		}
	}
	s.awaitCaughtUpExcept(t, pathMeta)
	return ended
}

func (s *scene) awaitState(t *testing.T, path, want string) {
	t.Helper()
	for _, n := range s.nodes {
		within(t, againWithin, func() error {
			if state := n.call(t, asOperator, http.MethodGet, "/api/v1/endpoints/"+s.endpoints[path], "")["state"]; state != want {
				return fmt.Errorf("node %s shows %s as %v, want %s", n.name, path, state, want)
			}
			return nil
		})
	}
}

// expectHeld sees that what is owed there is shown as held, and that nothing
// arrives while plenty does elsewhere.
func (s *scene) expectHeld(t *testing.T, path string) {
	t.Helper()
	missing, _ := s.missing(path, s.newest())
	if held := s.list(t, "/api/v1/deliveries?endpoint_id="+s.endpoints[path]+"&state=held"); len(held) < min(missing, 1000)*9/10 {
		t.Errorf("%d deliveries to %s are shown as held, but %d are missing", len(held), path, missing)
	}
	// One that was on its way when it was closed may still come in.
	s.awaitNothing(t, path)
}

// awaitNothing waits for plenty of arrivals elsewhere, twice, and sees that
// the path had none in the second round.
func (s *scene) awaitNothing(t *testing.T, path string) {
	t.Helper()
	s.awaitCaughtUpExcept(t, path)
	before := s.arrivedTotal(path)
	s.awaitCaughtUpExcept(t, path)
	if more := s.arrivedTotal(path) - before; more > 0 {
		t.Errorf("%d events arrived at %s, which is held", more, path)
	}
}

// awaitCaughtUpExcept waits until all that has been accepted by now has arrived
// at the other endpoints that do not wait for this one.
func (s *scene) awaitCaughtUpExcept(t *testing.T, path string) {
	t.Helper()
	for other := range s.places {
		if other != path && (path != pathMain || other != pathClone) {
			s.awaitCaughtUp(t, other)
		}
	}
}

// awaitCaughtUp waits until all that has been accepted by now has arrived there.
func (s *scene) awaitCaughtUp(t *testing.T, path string) {
	t.Helper()
	upTo := s.newest()
	within(t, time.Minute, func() error {
		if count, example := s.missing(path, upTo); count > 0 {
			return fmt.Errorf("%s did not receive %d events, such as %s", path, count, messageID(example))
		}
		return nil
	})
}

// TestSettingsSpread changes settings at one node and sees them in force at the
// others within a second.
func TestSettingsSpread(t *testing.T) {
	t.Parallel()
	s := newScene(t, newGateway(t, gatewayOptions{Database: pgtest.URL(t), Nodes: 3}))
	rounds := pick(20, 500)
	var worst time.Duration
	for round := range rounds {
		at := s.nodes[round%len(s.nodes)]
		wait := 300 + round // a value that no round had
		change := fmt.Sprintf(`{"policy":{"timeout":"%dms"}}`, wait)
		at.call(t, asOperator, http.MethodPatch, "/api/v1/endpoints/"+s.endpoints[pathMeta], change)
		changed := time.Now()
		for _, n := range s.nodes {
			within(t, againWithin, func() error {
				shown := n.call(t, asOperator, http.MethodGet, "/api/v1/endpoints/"+s.endpoints[pathMeta], "")["policy"]
				if !strings.Contains(fmt.Sprint(shown), fmt.Sprintf("timeout:%dms", wait)) {
					return fmt.Errorf("node %s shows %v", n.name, shown)
				}
				return nil
			})
		}
		worst = max(worst, time.Since(changed))
	}
	if worst > time.Second {
		t.Errorf("a change took %v to be in force everywhere", worst)
	}
	figures.add(t, fmt.Sprintf("| settings changed at one of three nodes | 0 | – | – | – | – | – | – | %d changes, in force everywhere after %s at most |", rounds, brief(worst)))
}
