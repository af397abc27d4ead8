package config

import (
	"strings"
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		age   time.Duration
		shown string
	}{
		"30d":     {30 * day, "30d"},
		"720h":    {30 * day, "30d"},
		"36h":     {36 * time.Hour, "36h0m0s"},
		"1d12h":   {36 * time.Hour, "36h0m0s"},
		" 90d ":   {90 * day, "90d"},
		"0":       {0, "forever"},
		"forever": {0, "forever"},
	} {
		var a Age
		if err := a.UnmarshalText([]byte(text)); err != nil || time.Duration(a) != want.age || a.String() != want.shown {
			t.Errorf("%q is %v (%s), %v; want %v (%s)", text, time.Duration(a), a, err, want.age, want.shown)
		}
		var again Age
		if err := again.UnmarshalText([]byte(a.String())); err != nil || again != a {
			t.Errorf("%q, as %q is shown, reads %v, %v", a.String(), text, again, err)
		}
	}
	for _, text := range []string{"", "d", "30", "-1d", "-3h", "0d", "0s", "30days", "1.5d", "99999999d", "1d-25h", "12h1d"} {
		var a Age
		if err := a.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q reads as %s", text, a)
		}
	}
}

func TestRetentionIsChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env  map[string]string
		want string // in the one fault; "": none
	}{
		"defaults":                    {nil, ""},
		"all kept":                    {map[string]string{"WAYPOST_RETAIN_BODIES": "0", "WAYPOST_RETAIN_ATTEMPTS": "0", "WAYPOST_RETAIN_EVENTS": "0"}, ""},
		"all equal":                   {map[string]string{"WAYPOST_RETAIN_EVENTS": "30d"}, ""},
		"events before bodies":        {map[string]string{"WAYPOST_RETAIN_EVENTS": "20d", "WAYPOST_RETAIN_ATTEMPTS": "10d"}, "retain-bodies (30d)"},
		"events before attempts":      {map[string]string{"WAYPOST_RETAIN_EVENTS": "20d", "WAYPOST_RETAIN_BODIES": "10d"}, "retain-attempts (30d)"},
		"bodies for ever, events not": {map[string]string{"WAYPOST_RETAIN_BODIES": "forever"}, "retain-bodies (forever)"},
		"keys too short":              {map[string]string{"WAYPOST_RETAIN_DEDUPE": "7d"}, "--retain-dedupe ($WAYPOST_RETAIN_DEDUPE)"},
		"keys for ever":               {map[string]string{"WAYPOST_RETAIN_DEDUPE": "forever"}, ""},
		"a small disk":                {map[string]string{"WAYPOST_DISK_LIMIT": "10M"}, "--disk-limit ($WAYPOST_DISK_LIMIT)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, faults := load(t, nil, tt.env)
			faults = append(faults, c.Check()...)
			if tt.want == "" && len(faults) > 0 || tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)) {
				t.Errorf("faults %q, want one with %q", faults, tt.want)
			}
		})
	}
}
