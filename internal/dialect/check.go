package dialect

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// The checks below are the only ones a receiver's settings pass: those made
// through a provider's API and through the management API go the same way.

const (
	defaultMaxURL  = 2048
	maxHost        = 253
	maxHeaders     = 20
	maxHeaderName  = 256
	maxHeaderValue = 4 << 10
)

// Option finds one of the dialect's options by name.
func (i Info) Option(name string) (Option, bool) {
	at := slices.IndexFunc(i.Options, func(o Option) bool { return o.Name == name })
	if at < 0 {
		return Option{}, false
	}
	return i.Options[at], true
}

// CheckURL checks the address of a receiver. trusted tells which hosts, given
// as an IP literal or "localhost", may be reached by http and on any port
// whatever the rules say; nil: none. An empty URL is refused: whether there may
// be none is the caller's to decide. The error is KindInvalid about "url" and
// holds no part of the URL, which may be secret.
func CheckURL(rules URLRules, raw string, trusted func(host string) bool) error {
	if fault := urlFault(rules, raw, trusted); fault != "" {
		return waypost.Invalid(waypost.FieldError{Field: "url", Message: fault})
	}
	return nil
}

func urlFault(rules URLRules, raw string, trusted func(host string) bool) string {
	limit := rules.MaxLength
	if limit == 0 {
		limit = defaultMaxURL
	}
	u, err := url.Parse(raw)
	switch {
	case len(raw) > limit:
		return fmt.Sprintf("must have at most %d bytes", limit)
	case err != nil || !utf8.ValidString(raw) || strings.ContainsFunc(raw, isSpaceOrControl):
		return "is not a valid URL"
	case u.Scheme != "https" && u.Scheme != "http":
		return "must start with https://"
	case u.Opaque != "" || u.Hostname() == "":
		return "must name a host"
	case strings.Contains(raw, "#"):
		return "must not have a fragment"
	case !validHost(u.Hostname()):
		return "does not have a valid host"
	case !validPort(u):
		return "does not have a valid port"
	case isLocalName(u.Hostname()) && trusted != nil && trusted(u.Hostname()):
		return ""
	}
	return ruleFault(rules, u)
}

func ruleFault(rules URLRules, u *url.URL) string {
	port := u.Port()
	switch {
	case u.Scheme == "http" && !rules.AllowHTTP:
		return "must start with https://"
	case rules.NoPort && port != "":
		return "must not have a port"
	case rules.Only443 && port != "443" && (port != "" || u.Scheme != "https"):
		return "must use port 443"
	case rules.NoUnderscore && strings.Contains(u.Hostname(), "_"):
		return "must not have an underscore in the host"
	}
	return ""
}

func isSpaceOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

func isLocalName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// validHost takes IP literals (without a zone, which only has a meaning on one
// machine) and names, also those that still have to be turned into ASCII.
func validHost(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Zone() == ""
	}
	name := strings.TrimSuffix(host, ".")
	if name == "" || len(name) > maxHost {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r < 0x80 && !isAlphanumeric(r) && !strings.ContainsRune("-._", r)
	})
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

// forbiddenHeaders belong to the connection or to us. So does everything that
// starts with one of forbiddenPrefixes.
var (
	forbiddenHeaders = []string{
		"accept-encoding", "connection", "content-encoding", "content-length", "expect",
		"host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
		"x-360dialog-signature", "x-hub-signature", "x-hub-signature-256",
	}
	forbiddenPrefixes = []string{"proxy-", "webhook-"}
)

// CheckHeaders checks the headers that are sent with every hook of an endpoint.
// The error is KindInvalid, names "headers" or "headers.<name>", and holds no
// value.
func CheckHeaders(headers map[string]waypost.Secret) error {
	var faults []waypost.FieldError
	if len(headers) > maxHeaders {
		faults = append(faults, waypost.FieldError{Field: "headers", Message: fmt.Sprintf("there may be at most %d", maxHeaders)})
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lower := strings.ToLower(name)
		fault := headerFault(lower, headers[name].Reveal())
		if seen[lower] {
			fault = "is given twice"
		}
		seen[lower] = true
		if fault != "" {
			faults = append(faults, waypost.FieldError{Field: "headers." + name, Message: fault})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return waypost.Invalid(faults...)
}

func headerFault(name, value string) string {
	switch {
	case name == "" || len(name) > maxHeaderName || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }):
		return "is not a valid header name"
	case slices.Contains(forbiddenHeaders, name),
		slices.ContainsFunc(forbiddenPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }):
		return "belongs to the connection or to the gateway and can't be set"
	case len(value) > maxHeaderValue:
		return fmt.Sprintf("must have at most %d bytes", maxHeaderValue)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "must not have control characters"
	case name == "content-type" && !isJSON(value):
		return "must be application/json, as the body is"
	}
	return ""
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	return strings.TrimSpace(media) == "application/json"
}

func isToken(r rune) bool { return isAlphanumeric(r) || strings.ContainsRune("!#$%&'*+-.^_`|~", r) }

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// CheckOptions checks the values of an endpoint's options, internal ones
// included; the faults name "options.<name>".
func CheckOptions(info Info, options map[string]any) []waypost.FieldError {
	return checkOptions(info, options, true)
}

// CheckPublicOptions is CheckOptions for options that come from anywhere but
// the dialect's own settings API: internal ones are refused like unknown ones.
func CheckPublicOptions(info Info, options map[string]any) []waypost.FieldError {
	return checkOptions(info, options, false)
}

func checkOptions(info Info, options map[string]any, internal bool) []waypost.FieldError {
	var faults []waypost.FieldError
	for _, name := range slices.Sorted(maps.Keys(options)) {
		option, ok := info.Option(name)
		fault := option.fault(options[name])
		if !ok || option.Internal && !internal {
			fault = "is not an option of " + info.ID
		}
		if fault != "" {
			faults = append(faults, waypost.FieldError{Field: "options." + name, Message: fault})
		}
	}
	return faults
}

func (o Option) fault(value any) string {
	switch o.Type {
	case OptionFlag:
		if _, ok := value.(bool); !ok {
			return "must be true or false"
		}
	case OptionInteger:
		if number, ok := value.(float64); !ok || number != math.Trunc(number) || math.IsInf(number, 0) {
			return "must be a whole number"
		}
	case OptionText:
		text, ok := value.(string)
		if !ok {
			return "must be a string"
		}
		if len(o.Enum) > 0 && !slices.Contains(o.Enum, text) {
			return "must be one of: " + strings.Join(o.Enum, ", ")
		}
	}
	return ""
}

// CheckEndpoint checks all that a dialect's settings API may set on an
// endpoint: the URL unless it is empty, headers, options and event filter.
func CheckEndpoint(info Info, endpoint *waypost.Endpoint, trusted func(host string) bool) error {
	var faults []waypost.FieldError
	collect := func(err error) {
		var e *waypost.Error
		if errors.As(err, &e) {
			faults = append(faults, e.Fields...)
		}
	}
	if endpoint.URL != "" {
		collect(CheckURL(info.URL, endpoint.URL, trusted))
	}
	collect(CheckHeaders(endpoint.Headers))
	faults = append(faults, CheckOptions(info, endpoint.Options)...)
	for _, glob := range endpoint.Events {
		if err := waypost.CheckGlob(glob); err != nil {
			faults = append(faults, waypost.FieldError{Field: "events", Message: MessageOf(err)})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return waypost.Invalid(faults...)
}
