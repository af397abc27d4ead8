package egress

import (
	"net"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// target is a URL that may be sent to, as far as its text tells.
type target struct {
	url  *url.URL
	host host
	// opening is how a POST to it begins, up to the Host header. It is empty for
	// a host that is not plain ASCII, which net/http knows how to translate.
	opening string
}

// host is what a connection leads to.
type host struct {
	secure  bool
	address string // name or address, and port
}

// maxTargets bounds how many URLs are remembered.
const maxTargets = 8192

// target takes a URL apart. What was found out is remembered: the same URLs
// come again and again.
func (c *Client) target(text string) (*target, *Error) {
	c.targetsMu.RLock()
	t := c.targets[text]
	c.targetsMu.RUnlock()
	if t != nil {
		return t, nil
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
		// The parser's own error quotes the URL.
		return nil, &Error{waypost.ReasonInternal, "the URL is not an http or https URL"}
	}
	if err := c.guard.checkHost(u.Hostname()); err != nil {
		return nil, &Error{waypost.ReasonForbidden, err.Error()}
	}
	uri := u.RequestURI()
	if !isText(uri) || strings.ContainsAny(uri, " \t") {
		return nil, unwritable("the URL holds a space or a control character")
	}
	t = &target{url: u, host: hostOf(u)}
	if isPlain(u.Host) {
		t.opening = "POST " + uri + " HTTP/1.1\r\nHost: " + u.Host + "\r\n"
	}
	c.targetsMu.Lock()
	defer c.targetsMu.Unlock()
	if len(c.targets) >= maxTargets {
		clear(c.targets)
	}
	c.targets[text] = t
	return t, nil
}

func hostOf(u *url.URL) host {
	h, port := host{secure: u.Scheme == "https"}, u.Port()
	switch {
	case port != "":
	case h.secure:
		port = "443"
	default:
		port = "80"
	}
	h.address = net.JoinHostPort(u.Hostname(), port)
	return h
}

// isPlain reports whether a host can be dialled and named as it is written.
func isPlain(host string) bool {
	return strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]") == ""
}

// header is h with what the request still needs, which is never written to h
// itself.
func (c *Client) header(h []Field, user *url.Userinfo) ([]Field, *Error) {
	for _, f := range h {
		if !isToken(f.Name) {
			return nil, unwritable("a header name is not valid")
		}
		if !isText(f.Value) {
			return nil, unwritable("a header value is not valid")
		}
	}
	h = slices.Clip(h)
	if !has(h, "User-Agent") {
		h = append(h, Field{"User-Agent", c.userAgent})
	}
	if user != nil && !has(h, "Authorization") {
		password, _ := user.Password()
		h = append(h, Field{"Authorization", basic(user.Username(), password)})
	}
	return h, nil
}

// appendHead writes the head of a POST, its headers in the order of their
// names.
func (t *target) appendHead(b []byte, h []Field, length int) []byte {
	b = append(b, t.opening...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	b = append(b, "\r\n"...)
	var few [8]Field
	ordered := append(few[:0], h...)
	slices.SortStableFunc(ordered, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range ordered {
		if isFraming(f.Name) || f.Value == "" && f.Name == "User-Agent" { // as one asks net/http for none
			continue
		}
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, textproto.TrimString(f.Value)...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// isFraming knows the headers that say where a request goes and ends. They are
// ours to write, whatever the caller's say.
func isFraming(name string) bool {
	return isNamed(name, "Host") || isNamed(name, "Trailer") ||
		isNamed(name, "Content-Length") || isNamed(name, "Transfer-Encoding")
}
