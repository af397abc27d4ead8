package httpserver

import (
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxFields bounds the headers of a request that we read ourselves.
const maxFields = 64

// parser reads the heads of plain POSTs, one after the other, into the same memory:
// a request is good until the next is read.
type parser struct {
	template *http.Request // what all requests have in common

	request http.Request
	header  http.Header
	values  []string // of the header
	url     url.URL
	latest  url.URL // of the target: one client's requests have the same, as a rule
	target  string
}

// parse reads a head, without the empty line at its end. It knows one way to write
// each thing, and a body whose length is told in one way; nil: there is something
// to the request that is not for us to understand.
func (p *parser) parse(head string) (r *http.Request, length int64) {
	first, lines, _ := strings.Cut(head, "\r\n")
	target, ok := strings.CutPrefix(first, "POST ")
	target, ok11 := strings.CutSuffix(target, " HTTP/1.1")
	if !ok || !ok11 || !p.locate(target) || !p.fields(lines) {
		return nil, 0
	}
	host, lengths := p.header["Host"], p.header["Content-Length"]
	if len(host) == 0 || len(lengths) == 0 || !isHost(host[0]) || !isNumber(lengths[0]) {
		return nil, 0
	}
	length, err := strconv.ParseInt(lengths[0], 10, 64)
	if err != nil {
		return nil, 0
	}
	delete(p.header, "Host") // as net/http has it
	r = &p.request
	*r = *p.template
	r.URL, r.RequestURI, r.Host, r.Header, r.ContentLength = &p.url, target, host[0], p.header, length
	return r, length
}

// locate reads what the request is for.
func (p *parser) locate(target string) bool {
	if target != p.target {
		if !isPath(target) {
			return false
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return false
		}
		p.target, p.latest = strings.Clone(target), *u
	}
	p.url = p.latest
	return true
}

// fields reads the lines of the header.
func (p *parser) fields(lines string) bool {
	n := strings.Count(lines, "\n")
	if n > maxFields {
		return false
	}
	if p.header == nil {
		p.header = make(http.Header, n)
	}
	clear(p.header)
	p.values = slices.Grow(p.values[:0], n)
	for range n {
		line, after, whole := strings.Cut(lines, "\r\n")
		name, value, _ := strings.Cut(line, ":") // of a line without one the name is no name
		if !whole || !isName(name) || !isText(value) || len(name) == len(line) {
			return false
		}
		if !p.add(textproto.CanonicalMIMEHeaderKey(name), textproto.TrimString(value)) {
			return false
		}
		lines = after
	}
	return lines == ""
}

// add takes in one header; false: it makes the request one that is not for us.
func (p *parser) add(name, value string) bool {
	former, repeated := p.header[name]
	switch name {
	case "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Pragma":
		return false
	case "Connection":
		if !strings.EqualFold(value, "keep-alive") {
			return false
		}
	case "Host", "Content-Length":
		if repeated {
			return false
		}
	}
	if repeated {
		p.header[name] = append(former, value)
		return true
	}
	i := len(p.values)
	p.values = append(p.values, value)
	p.header[name] = p.values[i : i+1 : i+1]
	return true
}

// isPath wants visible ASCII that begins with one slash.
func isPath(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "//")
}

func isName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return name != ""
}

// isText reports whether a text has no control characters but tabs.
func isText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isHost(host string) bool {
	return strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]") == ""
}

func isNumber(text string) bool {
	return text != "" && len(text) <= 18 && strings.Trim(text, "0123456789") == ""
}
