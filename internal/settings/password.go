package settings

import "strings"

// A receiver's URL may carry a password. It is kept, and shown to the provider's
// own customer who set it; the management API shows a filler in its place.

const passwordFiller = "xxxxx"

// ShownURL is a receiver's URL as the management API shows it.
func ShownURL(raw string) string {
	start, end, ok := password(raw)
	if !ok {
		return raw
	}
	return raw[:start] + passwordFiller + raw[end:]
}

// givenURL is the URL that is meant by one which was sent: what answers show is
// the URL there is.
func givenURL(present, sent string) string {
	if sent == ShownURL(present) {
		return present
	}
	return sent
}

// isFilled reports whether a URL has the filler for a password.
func isFilled(raw string) bool {
	start, end, ok := password(raw)
	return ok && raw[start:end] == passwordFiller
}

// password is where a URL has its password.
func password(raw string) (start, end int, ok bool) {
	start, end = userInfo(raw)
	colon := strings.IndexByte(raw[start:end], ':')
	if colon < 0 {
		return 0, 0, false
	}
	return start + colon + 1, end, true
}

// userInfo is where a URL has its user and password, the "@" after them left out;
// start is end where it has neither.
func userInfo(raw string) (start, end int) {
	scheme := strings.Index(raw, "://")
	if scheme < 0 {
		return 0, 0
	}
	start = scheme + len("://")
	authority := raw[start:]
	if stop := strings.IndexAny(authority, "/?#"); stop >= 0 {
		authority = authority[:stop]
	}
	return start, start + max(strings.LastIndexByte(authority, '@'), 0)
}
