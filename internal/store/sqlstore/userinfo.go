package sqlstore

import "strings"

// User and password in a receiver's URL are kept sealed; the column holds the rest.

// apart takes user and password, if there are any, out of a URL.
func apart(url string) (bare, userInfo string) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url, ""
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return url, ""
	}
	return scheme + "://" + rest[at+1:], rest[:at+1]
}

// together puts back what apart took out.
func together(bare, userInfo string) string {
	scheme, rest, _ := strings.Cut(bare, "://")
	if userInfo == "" {
		return bare
	}
	return scheme + "://" + userInfo + rest
}
