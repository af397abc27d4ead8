package digital99

import (
	_ "embed"
	"strings"
)

// countries has a country a line: its two letters and the prefixes, in
// international form, of its phones. Countries that share a calling code are
// told apart by what follows it, as far as that can be done; the biggest has
// the bare code.
//
//go:embed countries.txt
var countries string

var (
	countryByPrefix = map[string]string{}
	longestPrefix   int
)

func init() {
	for line := range strings.Lines(countries) {
		words := strings.Fields(line)
		for _, prefix := range words[1:] {
			countryByPrefix[prefix] = words[0]
			longestPrefix = max(longestPrefix, len(prefix))
		}
	}
}

// countryOf tells a user's country: as the user id has it, else by the phone's
// prefix; "" if neither tells.
func countryOf(userID, phone string) string {
	if letters, _, ok := strings.Cut(userID, "."); ok && len(letters) == 2 {
		return letters
	}
	for n := min(longestPrefix, len(phone)); n > 0; n-- {
		if country, ok := countryByPrefix[phone[:n]]; ok {
			return country
		}
	}
	return ""
}
