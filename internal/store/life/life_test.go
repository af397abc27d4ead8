package life_test

import (
	"os"
	"testing"

	"github.com/waypost-gateway/waypost/internal/store/life"
)

// limits are large enough for most rules to matter, and one fault more for all:
// TestBrokenRules shows it.
func limits(faults uint8) life.Limits { return life.Limits{Faults: faults, Attempts: 3} }

func TestEveryOrderOfEvents(t *testing.T) {
	t.Parallel()
	faults := uint8(3)
	if os.Getenv("WAYPOST_FAULTS") == "long" {
		faults = 5
	}
	states, err := life.Explore(life.Rules{}, limits(faults))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up to %d faults: %d states, none of them breaks a promise", faults, states)
}

// TestBrokenRules breaks one rule at a time: a proof that would not notice
// proves nothing.
func TestBrokenRules(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]life.Rules{
		"answer before the commit":             {AnswerBeforeCommit: true},
		"results without a fence":              {Unfenced: true},
		"no adoption":                          {NoAdoption: true},
		"a commit in doubt taken as failed":    {ForgetDoubt: true},
		"kept results without a look":          {BlindEarlier: true},
		"settled before the receiver answered": {SettleThenSend: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			states, err := life.Explore(rules, limits(4))
			if err == nil {
				t.Fatalf("%d states, and nothing was noticed", states)
			}
			t.Log(err)
		})
	}
}
