package lifecycle

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func event(field, value string) *waypost.Event {
	return &waypost.Event{
		Type: "whatsapp." + field, Form: waypost.FormCloud,
		Body: fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"1","time":1767571200,"changes":[{"value":%s,"field":%q}]}]}`, value, field),
	}
}

func limit(n int64) *int64 { return &n }

func TestOf(t *testing.T) {
	t.Parallel()
	const account, quality, capability = "account_update", "phone_number_quality_update", "business_capability_update"
	deleted := Change{State: waypost.LifecycleDeleted, WholeAccount: true}
	for _, c := range []struct {
		field, value string
		want         Change
	}{
		{account, `{"event":"ACCOUNT_DELETED"}`, deleted},
		{account, `{"event":"ACCOUNT_OFFBOARDED"}`, deleted},
		{account, `{"event":"PARTNER_APP_UNINSTALLED","waba_info":{"waba_id":"1"}}`, deleted},
		{account, `{"event":"PARTNER_REMOVED","waba_info":{"waba_id":"1"},"disconnection_info":{"reason":"COMPANION_INACTIVITY"}}`, deleted},
		{account, `{"event":"PARTNER_REMOVED","phone_number":"15550142077"}`, Change{State: waypost.LifecycleDeleted}},
		{account, `{"event":"ACCOUNT_RECONNECTED"}`, Change{State: waypost.LifecycleReady, From: waypost.LifecycleDeleted, WholeAccount: true}},
		{account, `{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":"DISABLE"}}`, Change{State: waypost.LifecycleFailed, WholeAccount: true}},
		{account, `{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":["DISABLE"]}}`, Change{State: waypost.LifecycleFailed, WholeAccount: true}},
		{account, `{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":"REINSTATE"}}`, Change{State: waypost.LifecycleReady, From: waypost.LifecycleFailed, WholeAccount: true}},
		{account, `{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":"SCHEDULE_FOR_DISABLE"}}`, Change{WholeAccount: true}},
		{account, `{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":[]}}`, Change{WholeAccount: true}},
		{account, `{"event":"DISABLED_UPDATE"}`, Change{WholeAccount: true}},
		{account, `{"event":"ACCOUNT_VIOLATION","phone_number":"15550142077"}`, Change{}},
		{quality, `{"event":"ONBOARDING","current_limit":"TIER_250"}`, Change{State: waypost.LifecycleReady, DailyLimit: limit(250)}},
		{quality, `{"event":"ONBOARDING","current_limit":"TIER_NOT_SET"}`, Change{State: waypost.LifecycleReceiving, DailyLimit: limit(0)}},
		{quality, `{"event":"ONBOARDING"}`, Change{State: waypost.LifecycleReceiving}},
		{quality, `{"event":"ONBOARDING","current_limit":"TIER_250","max_daily_conversations_per_business":"TIER_2K"}`, Change{State: waypost.LifecycleReady, DailyLimit: limit(2000)}},
		{quality, `{"event":"THROUGHPUT_UPGRADE","current_limit":"TIER_UNLIMITED"}`, Change{DailyLimit: limit(1000000)}},
		{quality, `{"event":"FLAGGED","current_limit":"TIER_10K"}`, Change{DailyLimit: limit(10000)}},
		{quality, `{"event":"UPGRADE","old_limit":"TIER_1K","current_limit":"TIER_100K"}`, Change{DailyLimit: limit(100000)}},
		{capability, `{"max_daily_conversations_per_business":2000,"max_phone_numbers_per_waba":25}`, Change{DailyLimit: limit(2000), WholeAccount: true}},
		{capability, `{"max_daily_conversations_per_business":"TIER_10K"}`, Change{DailyLimit: limit(10000), WholeAccount: true}},
		{capability, `{"max_daily_conversation_per_phone":-1}`, Change{DailyLimit: limit(1000000), WholeAccount: true}},
		{capability, `{"max_daily_conversations_per_business":"NOT_SET"}`, Change{DailyLimit: limit(0), WholeAccount: true}},
		{capability, `{"max_daily_conversations_per_business":"TIER_MANY"}`, Change{WholeAccount: true}},
		{capability, `{"max_daily_conversations_per_business":2e3}`, Change{WholeAccount: true}},
		{capability, `{"max_daily_conversations_per_business":-5}`, Change{WholeAccount: true}},
		{capability, `{"max_daily_conversations_per_business":99999999999999}`, Change{WholeAccount: true}},
		{capability, `{"max_daily_conversations_per_business":{"a":1}}`, Change{WholeAccount: true}},
		{capability, `null`, Change{WholeAccount: true}},
		{"messages", `{"event":"ACCOUNT_DELETED"}`, Change{}},
		{"account_alerts", `{"event":"ACCOUNT_DELETED"}`, Change{}},
	} {
		if diff := cmp.Diff(c.want, Of(event(c.field, c.value))); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.field, c.value, diff)
		}
	}
	for _, body := range []string{"", "no", "{}", `{"entry":[]}`, `{"entry":[{"changes":[]}]}`, `{"entry":[{"changes":[{"value":5}]}]}`} {
		e := event(account, `{}`)
		e.Body = []byte(body)
		if change := Of(e); !change.Empty() {
			t.Errorf("%q says %+v", body, change)
		}
	}
	published := event(account, `{"event":"ACCOUNT_DELETED"}`)
	published.Form = waypost.FormData
	if change := Of(published); !change.Empty() {
		t.Errorf("what a platform published moves a lifecycle: %+v", change)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		before waypost.Lifecycle
		change Change
		after  waypost.Lifecycle
	}{
		{"", Change{State: waypost.LifecycleReceiving}, waypost.LifecycleReceiving},
		{waypost.LifecycleOnboarded, Change{State: waypost.LifecycleReceiving}, waypost.LifecycleReceiving},
		{waypost.LifecycleDeleted, Change{State: waypost.LifecycleReceiving}, waypost.LifecycleReceiving},
		{waypost.LifecycleReady, Change{State: waypost.LifecycleReceiving}, waypost.LifecycleReady},
		{waypost.LifecycleReady, Change{State: waypost.LifecycleDeleted}, waypost.LifecycleDeleted},
		{waypost.LifecycleFailed, accountEvents["REINSTATE"], waypost.LifecycleReady},
		{waypost.LifecycleReceiving, accountEvents["REINSTATE"], waypost.LifecycleReceiving},
		{waypost.LifecycleDeleted, accountEvents["REINSTATE"], waypost.LifecycleDeleted},
		{waypost.LifecycleReady, Change{DailyLimit: limit(5)}, waypost.LifecycleReady},
	} {
		if got := c.change.Apply(waypost.Number{Lifecycle: c.before}).Lifecycle; got != c.after {
			t.Errorf("%q with %+v becomes %q, want %q", c.before, c.change, got, c.after)
		}
	}
}

// A change can be made twice: that is what following a notice again rests on.
func TestApplyTwiceIsOnce(t *testing.T) {
	t.Parallel()
	states := []waypost.Lifecycle{
		"", waypost.LifecycleOnboarded, waypost.LifecycleReceiving, waypost.LifecycleReady, waypost.LifecycleDeleted, waypost.LifecycleFailed,
	}
	rapid.Check(t, func(t *rapid.T) {
		state := rapid.SampledFrom(states)
		n := waypost.Number{Lifecycle: state.Draw(t, "is"), DailyLimit: rapid.Int64Min(0).Draw(t, "limit")}
		change := Change{State: state.Draw(t, "state"), From: state.Draw(t, "from")}
		if rapid.Bool().Draw(t, "limited") {
			change.DailyLimit = limit(rapid.Int64Min(0).Draw(t, "to"))
		}
		once := change.Apply(n)
		if diff := cmp.Diff(once, change.Apply(once)); diff != "" {
			t.Fatalf("again (-once +twice):\n%s", diff)
		}
	})
}

func FuzzOf(f *testing.F) {
	f.Add("account_update", []byte(`{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":["DISABLE"]}}`))
	f.Add("phone_number_quality_update", []byte(`{"event":"ONBOARDING","current_limit":"TIER_10K"}`))
	f.Add("business_capability_update", []byte(`{"max_daily_conversations_per_business":[ ]}`))
	f.Fuzz(func(t *testing.T, field string, value []byte) {
		change := Of(event(field, string(value)))
		if change.DailyLimit != nil && (*change.DailyLimit < 0 || *change.DailyLimit > 1<<41) {
			t.Errorf("a limit of %d", *change.DailyLimit)
		}
		if n := change.Apply(waypost.Number{}); n.Lifecycle != "" && n.Lifecycle != change.State {
			t.Errorf("the number became %q by %+v", n.Lifecycle, change)
		}
	})
}
