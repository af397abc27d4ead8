package httpserver

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// parse reads the head of a plain POST, without the empty line at its end, into a
// copy of template. It knows one way to write each thing, and a body whose length
// is told in one way; nil: there is something to the request that is not for us to
// understand.
func parse(head string, template *http.Request) (r *http.Request, length int64) {
	first, lines, _ := strings.Cut(head, "\r\n")
	target, ok := strings.CutPrefix(first, "POST ")
	target, ok11 := strings.CutSuffix(target, " HTTP/1.1")
	if !ok || !ok11 || !isPath(target) {
		return nil, 0
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, 0
	}
	n := strings.Count(lines, "\n")
	header, values := make(http.Header, n), make([]string, n)
	for i := range n {
		line, after, whole := strings.Cut(lines, "\r\n")
		name, value, _ := strings.Cut(line, ":") // of a line without one the name is no name
		if !whole || !isName(name) || !isText(value) || len(name) == len(line) {
			return nil, 0
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		values[i] = textproto.TrimString(value)
		former, repeated := header[name]
		switch name {
		case "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Pragma":
			return nil, 0
		case "Connection":
			if !strings.EqualFold(values[i], "keep-alive") {
				return nil, 0
			}
		case "Host", "Content-Length":
			if repeated {
				return nil, 0
			}
		}
		if repeated {
			header[name] = append(former, values[i])
		} else {
			header[name] = values[i : i+1 : i+1]
		}
		lines = after
	}
	host, lengths := header["Host"], header["Content-Length"]
	if lines != "" || len(host) == 0 || len(lengths) == 0 || !isHost(host[0]) || !isNumber(lengths[0]) {
		return nil, 0
	}
	length, err = strconv.ParseInt(lengths[0], 10, 64)
	if err != nil {
		return nil, 0
	}
	delete(header, "Host") // as net/http has it
	request := *template
	r = &request
	r.URL, r.RequestURI, r.Host, r.Header, r.ContentLength = u, target, host[0], header, length
	return r, length
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
