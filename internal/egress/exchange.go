package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// exchange is one request and its answer, of which up to keep bytes of the
// body are kept.
func (c *Client) exchange(ctx context.Context, method string, r Request, keep int) Answer {
	w := &watch{start: time.Now()}
	request, err := c.request(w.trace(ctx), method, r)
	if err != nil {
		return w.answer(Answer{Err: err, Reason: err.reason})
	}
	response, roundTripErr := c.transport.RoundTrip(request)
	if roundTripErr != nil {
		return w.answer(w.failed(ctx, roundTripErr))
	}
	a := Answer{Status: response.StatusCode, Header: response.Header}
	body, bodyErr := c.read(response, keep)
	if bodyErr != nil {
		failed := w.failed(ctx, bodyErr)
		a.Err, a.Reason = failed.Err, failed.Reason
	}
	a.Body = body
	return w.answer(a)
}

// request builds what the transport wants. It goes without http.NewRequest and
// http.Client, which would parse and copy more than this path needs.
func (c *Client) request(ctx context.Context, method string, r Request) (*http.Request, *Error) {
	target, err := c.target(r.URL)
	if err != nil {
		return nil, err
	}
	request := &http.Request{
		Method:     method,
		URL:        target,
		Host:       target.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     c.header(r.Header, target.User),
	}
	if len(r.Body) > 0 {
		request.ContentLength = int64(len(r.Body))
		request.Body = reader(r.Body)
		// Lets the transport take another connection when a kept one turns out
		// to be closed before anything was written to it.
		request.GetBody = func() (io.ReadCloser, error) { return reader(r.Body), nil }
	} else if method == http.MethodPost {
		request.Body = http.NoBody // sends Content-Length: 0
	}
	return request.WithContext(ctx), nil
}

// maxTargets bounds how many URLs are remembered.
const maxTargets = 8192

// target is a URL that may be sent to, as far as its text tells. What was found
// out is remembered: the same URLs come again and again.
func (c *Client) target(text string) (*url.URL, *Error) {
	c.targetsMu.RLock()
	target := c.targets[text]
	c.targetsMu.RUnlock()
	if target != nil {
		return target, nil
	}
	target, err := url.Parse(text)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") {
		// The parser's own error quotes the URL.
		return nil, &Error{waypost.ReasonInternal, "the URL is not an http or https URL"}
	}
	if err := c.guard.checkHost(target.Hostname()); err != nil {
		return nil, &Error{waypost.ReasonForbidden, err.Error()}
	}
	c.targetsMu.Lock()
	defer c.targetsMu.Unlock()
	if len(c.targets) >= maxTargets {
		clear(c.targets)
	}
	c.targets[text] = target
	return target, nil
}

func reader(body []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }

// header is h with what the request still needs, which is never written to h
// itself.
func (c *Client) header(h http.Header, user *url.Userinfo) http.Header {
	if _, ok := h["User-Agent"]; ok && user == nil {
		return h
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
	return h
}

var buffers = sync.Pool{New: func() any { return new([headCap]byte) }}

// read takes in the body up to the limit, so that the connection can be kept
// when the body ends before it, and returns the head. Closing a body that has
// not ended closes the connection (HTTP/1.1) or the stream (HTTP/2).
func (c *Client) read(response *http.Response, keep int) ([]byte, error) {
	defer response.Body.Close()
	if response.Body == http.NoBody || response.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil // what follows a 101 is no body
	}
	body := io.LimitReader(response.Body, int64(c.maxBody))
	if keep > headCap {
		return io.ReadAll(body)
	}
	buffer := buffers.Get().(*[headCap]byte)
	defer buffers.Put(buffer)
	n, err := fill(body, buffer[:])
	if err == nil { // there may be more
		_, err = io.Copy(io.Discard, body)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return bytes.Clone(buffer[:n]), err
}

// fill reads until the buffer is full (nil) or the reader errs. Unlike
// io.ReadFull it leaves the error as it is: an unexpected end of the body must
// not look like its end.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = r.Read(buffer[n:])
		n += m
	}
	if n == len(buffer) && errors.Is(err, io.EOF) {
		err = nil // the copy that follows meets the end again
	}
	return n, err
}
