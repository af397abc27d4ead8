// Package lifecycle reads in Meta's notices how far a number has come on its
// way to being usable, and how many conversations a day it may open.
//
// It is pure: an event gives a Change, and a Change applied to a number gives
// the number as it then is. The same event always gives the same Change, so
// whoever applies it may do so again after a failure in between. A notice that
// says nothing of the kind, or can't be read, gives none.
package lifecycle

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Unlimited stands for no limit on the conversations of a day.
const Unlimited = 1_000_000

// The notices that may hold a Change.
const (
	typeAccount    = waypost.TypeFieldPrefix + "account_update"
	typeQuality    = waypost.TypeFieldPrefix + "phone_number_quality_update"
	typeCapability = waypost.TypeFieldPrefix + "business_capability_update"
)

// Change is what a notice says. Members that are empty say nothing.
type Change struct {
	// State is where the lifecycle moves to, and From the only state it moves
	// from; empty: from any.
	State, From waypost.Lifecycle
	DailyLimit  *int64
	// WholeAccount: every number of the business account is meant, else only
	// the one that the notice names.
	WholeAccount bool
}

// Empty reports whether the change changes nothing.
func (c Change) Empty() bool { return c.State == "" && c.DailyLimit == nil }

// Apply gives the number with the change made. A number that is ready is not
// put back by word of its own onboarding.
func (c Change) Apply(n waypost.Number) waypost.Number {
	putBack := c.State == waypost.LifecycleReceiving && n.Lifecycle == waypost.LifecycleReady
	if c.State != "" && (c.From == "" || c.From == n.Lifecycle) && !putBack {
		n.Lifecycle = c.State
	}
	if c.DailyLimit != nil {
		n.DailyLimit = *c.DailyLimit
	}
	return n
}

// Concerns reports whether events of this type may hold a Change.
func Concerns(eventType string) bool {
	return eventType == typeAccount || eventType == typeQuality || eventType == typeCapability
}

// Of reads the change that an event holds.
func Of(event *waypost.Event) Change {
	if event.Form != waypost.FormCloud || !Concerns(event.Type) {
		return Change{}
	}
	told, err := meta.Read(event.Body)
	if err != nil {
		return Change{}
	}
	v := &told.Value
	switch event.Type {
	case typeAccount:
		return ofAccount(v)
	case typeQuality:
		return ofQuality(v)
	default:
		return Change{DailyLimit: limitOf(cmp.Or(v.BusinessLimit, v.PhoneLimit)), WholeAccount: true}
	}
}

// accountEvents are what becomes of a business account. One that is disabled
// can't go on until Meta gives it back, which is not the end of it; one that
// was only thought lost is as it was.
var accountEvents = map[meta.Text]Change{
	"ACCOUNT_DELETED":         {State: waypost.LifecycleDeleted},
	"ACCOUNT_OFFBOARDED":      {State: waypost.LifecycleDeleted},
	"PARTNER_REMOVED":         {State: waypost.LifecycleDeleted},
	"PARTNER_APP_UNINSTALLED": {State: waypost.LifecycleDeleted},
	"ACCOUNT_RECONNECTED":     {State: waypost.LifecycleReady, From: waypost.LifecycleDeleted},
	"DISABLE":                 {State: waypost.LifecycleFailed},
	"REINSTATE":               {State: waypost.LifecycleReady, From: waypost.LifecycleFailed},
}

func ofAccount(v *meta.Value) Change {
	what := v.Event
	if what == "DISABLED_UPDATE" {
		what = v.BanInfo.State
	}
	change := accountEvents[what]
	change.WholeAccount = v.PhoneNumber == ""
	return change
}

// ofQuality: a number comes out of its onboarding ready where Meta has given it
// a limit, and able to receive and reply where it has not.
func ofQuality(v *meta.Value) Change {
	change := Change{DailyLimit: limitOf(cmp.Or(v.BusinessLimit, v.CurrentLimit))}
	switch {
	case v.Event != "ONBOARDING":
	case change.DailyLimit != nil && *change.DailyLimit > 0:
		change.State = waypost.LifecycleReady
	default:
		change.State = waypost.LifecycleReceiving
	}
	return change
}

// limitOf reads a limit, which comes as a number or as a word such as TIER_10K;
// 0 is "not set yet". nil: none is told.
func limitOf(told meta.Text) *int64 {
	var limit int64
	switch word := strings.TrimPrefix(string(told), "TIER_"); word {
	case "UNLIMITED", "-1":
		limit = Unlimited
	case "NOT_SET":
	default:
		digits, thousands := strings.CutSuffix(word, "K")
		count, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return nil
		}
		limit = int64(count)
		if thousands {
			limit *= 1000
		}
	}
	return &limit
}
