package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Age is how long something is kept, written like 90d, 36h or 1d12h. 0, which
// can be written "forever" too, means without end.
type Age time.Duration

const day = 24 * time.Hour

// UnmarshalText reads an age.
func (a *Age) UnmarshalText(text []byte) error {
	word := strings.TrimSpace(string(text))
	if word == "0" || word == "forever" {
		*a = 0
		return nil
	}
	total, rest := time.Duration(0), word
	if days, after, ok := strings.Cut(word, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return notAnAge(text)
		}
		total, rest = time.Duration(n)*day, after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return notAnAge(text)
		}
		total += d
	}
	if total <= 0 {
		return notAnAge(text)
	}
	*a = Age(total)
	return nil
}

func notAnAge(text []byte) error {
	return fmt.Errorf("%q is not an age: write it like 90d or 36h, or forever", text)
}

// String writes the age in days where it is whole days.
func (a Age) String() string {
	d := time.Duration(a)
	switch {
	case d == 0:
		return "forever"
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	default:
		return d.String()
	}
}

// shorter reports whether it ends before another.
func (a Age) shorter(than Age) bool { return a != 0 && (than == 0 || a < than) }
