package httpserver

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// maxFields bounds the headers of a request that we read ourselves.
const maxFields = 64

// parser reads the heads of plain POSTs, one after the other, into the same memory:
// a request is good until the next is read. One client's requests have most lines in
// common, as a rule, so what the head before had in the same place is kept as it is.
type parser struct {
	template *http.Request // what all requests have in common

	request http.Request
	header  http.Header
	fields  []field // of the latest head, line by line
	url     url.URL
	latest  url.URL // of the target
	target  string
}

// field is a line of a head.
type field struct {
	label string // up to its colon, as it came
	name  string
	value [1]string
}

var lineEnd = []byte("\r\n")

// parse reads a head, without the empty line at its end. It knows one way to write
// each thing, and a body whose length is told in one way; nil: there is something
// to the request that is not for us to understand.
func (p *parser) parse(head []byte) (r *http.Request, length int64) {
	first, lines, _ := bytes.Cut(head, lineEnd)
	target, ok := bytes.CutPrefix(first, []byte("POST "))
	target, ok11 := bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	if !ok || !ok11 || !p.locate(target) || !p.take(lines) {
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
	r.URL, r.RequestURI, r.Host, r.Header, r.ContentLength = &p.url, p.target, host[0], p.header, length
	return r, length
}

// locate reads what the request is for.
func (p *parser) locate(target []byte) bool {
	if p.target == "" || string(target) != p.target {
		if !isPath(target) {
			return false
		}
		text := string(target)
		u, err := url.ParseRequestURI(text)
		if err != nil {
			return false
		}
		p.target, p.latest = text, *u
	}
	p.url = p.latest
	return true
}

// take reads the lines of the header.
func (p *parser) take(lines []byte) bool {
	if p.header == nil {
		p.header = http.Header{}
	}
	clear(p.header)
	n := 0
	for ; len(lines) > 0; n++ {
		line, after, whole := bytes.Cut(lines, lineEnd)
		if !whole || n == maxFields {
			return false
		}
		if n == len(p.fields) {
			p.fields = append(p.fields, field{})
		}
		if f := &p.fields[n]; !f.read(line) || !p.add(f) {
			return false
		}
		lines = after
	}
	p.fields = p.fields[:n]
	return true
}

// read reads a line; false: it is none.
func (f *field) read(line []byte) bool {
	if f.label == "" || !bytes.HasPrefix(line, []byte(f.label)) {
		colon := bytes.IndexByte(line, ':')
		if colon < 0 || !isName(line[:colon]) {
			return false
		}
		f.label = string(line[:colon+1])
		f.name = textproto.CanonicalMIMEHeaderKey(f.label[:colon])
	}
	value := bytes.Trim(line[len(f.label):], " \t")
	if string(value) != f.value[0] {
		if !isText(value) {
			return false
		}
		f.value[0] = string(value)
	}
	return true
}

// add takes in one header; false: it makes the request one that is not for us.
func (p *parser) add(f *field) bool {
	former, repeated := p.header[f.name]
	switch f.name {
	case "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Pragma":
		return false
	case "Connection":
		if !strings.EqualFold(f.value[0], "keep-alive") {
			return false
		}
	case "Host", "Content-Length":
		if repeated {
			return false
		}
	}
	if repeated {
		p.header[f.name] = append(former, f.value[0])
	} else {
		p.header[f.name] = f.value[:]
	}
	return true
}

// isPath wants visible ASCII that begins with one slash.
func isPath(target []byte) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return bytes.HasPrefix(target, []byte("/")) && !bytes.HasPrefix(target, []byte("//"))
}

func isName(name []byte) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(name) > 0
}

// isText reports whether a text has no control characters but tabs.
func isText(text []byte) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= ':', c == '-', c == '.', c == '_', c == '[', c == ']':
		default:
			return false
		}
	}
	return true
}

func isNumber(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < '0' || c > '9' {
			return false
		}
	}
	return text != "" && len(text) <= 18
}
