package egress

import (
	"maps"
	"net"
	"net/http"
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
func (c *Client) header(h http.Header, user *url.Userinfo) (http.Header, *Error) {
	for name, values := range h {
		if !isToken(name) {
			return nil, unwritable("a header name is not valid")
		}
		for _, value := range values {
			if !isText(value) {
				return nil, unwritable("a header value is not valid")
			}
		}
	}
	if _, ok := h["User-Agent"]; ok && user == nil {
		return h, nil
	}
	if h == nil {
		h = http.Header{}
	} else {
		h = maps.Clone(h)
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = c.userAgent
	}
	if _, ok := h["Authorization"]; !ok && user != nil {
		password, _ := user.Password()
		h["Authorization"] = []string{basic(user.Username(), password)}
	}
	return h, nil
}

// appendHead writes the head of a POST, its headers in the order of their
// names.
func (t *target) appendHead(b []byte, h http.Header, length int) []byte {
	b = append(b, t.opening...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	b = append(b, "\r\n"...)
	var few [16]string
	names := few[:0]
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if isFraming(name) {
			continue
		}
		for _, value := range h[name] {
			if value == "" && name == "User-Agent" { // as one asks net/http for none
				continue
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, textproto.TrimString(value)...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// isFraming knows the headers that say where a request goes and ends. They are
// ours to write, whatever the caller's say.
func isFraming(name string) bool {
	switch len(name) {
	case len("Host"):
		return strings.EqualFold(name, "Host")
	case len("Trailer"):
		return strings.EqualFold(name, "Trailer")
	case len("Content-Length"):
		return strings.EqualFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}
