package dialect

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	plain := URLRules{}
	tests := []struct {
		rules URLRules
		url   string
		want  string // part of the refusal; empty: taken
	}{
		{plain, "https://hooks.acme.test", ""},
		{plain, "https://hooks.acme.test:8443/wa?t=4&u=%20#", "fragment"},
		{plain, "https://hooks.acme.test:8443/wa?t=4&u=%20", ""},
		{plain, "https://user:pass@hooks.acme.test/", ""},
		{plain, "HTTPS://HOOKS.ACME.TEST/", ""},
		{plain, "https://bücher.test/", ""},
		{plain, "https://a_b.test/", ""},
		{plain, "https://a.test./", ""},
		{plain, "https://192.0.2.7/", ""},
		{plain, "https://[2001:db8::1]:444/", ""},
		{plain, "", "https://"},
		{plain, "hooks.acme.test/wa", "https://"},
		{plain, "//hooks.acme.test/wa", "https://"},
		{plain, "ftp://hooks.acme.test", "https://"},
		{plain, "javascript:alert(1)", "https://"},
		{plain, "https:hooks.acme.test", "host"},
		{plain, "https:///wa", "host"},
		{plain, "https://:443/wa", "host"},
		{plain, "https://a..b/", "host"},
		{plain, "https://a b/", "valid URL"},
		{plain, "https://a.test/x y", "valid URL"},
		{plain, " https://a.test/", "valid URL"},
		{plain, "https://a.test/\r\nHost: b", "valid URL"},
		{plain, "https://a.test/%zz", "valid URL"},
		{plain, "https://a.test:/", "port"},
		{plain, "https://a.test:0/", "port"},
		{plain, "https://a.test:65536/", "port"},
		{plain, "https://a.test:x/", "valid URL"},
		{plain, "https://a,b/", "host"},
		{plain, "https://[fe80::1%25eth0]/", "host"},
		{plain, "https://a.test/\xff", "valid URL"},
		{plain, "https://" + strings.Repeat("a", 64) + ".test/", "host"},
		{plain, "https://" + strings.Repeat("a.", 130) + "test/", "host"},
		{plain, "https://a.test/" + strings.Repeat("x", 2048-len("https://a.test/")), ""},
		{plain, "https://a.test/" + strings.Repeat("x", 2049-len("https://a.test/")), "at most 2048"},
		{URLRules{MaxLength: 20}, "https://a.test/12345", ""},
		{URLRules{MaxLength: 20}, "https://a.test/123456", "at most 20"},
		{plain, "http://a.test/", "https://"},
		{URLRules{AllowHTTP: true}, "http://a.test:8080/", ""},
		{URLRules{Only443: true}, "https://a.test/", ""},
		{URLRules{Only443: true}, "https://a.test:443/", ""},
		{URLRules{Only443: true}, "https://a.test:8443/", "port 443"},
		{URLRules{Only443: true, AllowHTTP: true}, "http://a.test/", "port 443"},
		{URLRules{Only443: true, AllowHTTP: true}, "http://a.test:443/", ""},
		{URLRules{NoPort: true}, "https://a.test/", ""},
		{URLRules{NoPort: true}, "https://a.test:443/", "port"},
		{URLRules{NoUnderscore: true}, "https://a_b.test/", "underscore"},
		{URLRules{NoUnderscore: true}, "https://ab.test/c_d", ""},
		{URLRules{NoPort: true, Only443: true}, "http://127.0.0.1:9000/", ""},
		{URLRules{NoPort: true, Only443: true}, "http://[::1]:9000/", ""},
		{URLRules{NoPort: true, Only443: true}, "http://localhost:9000/", ""},
		{plain, "http://127.0.0.1:9000/#f", "fragment"},
		{plain, "http://10.0.0.1/", "https://"},
		{plain, "http://127.0.0.1.nip.test/", "https://"},
	}
	for _, test := range tests {
		t.Run(test.url, func(t *testing.T) {
			t.Parallel()
			err := CheckURL(test.rules, test.url, loopback)
			if test.want == "" {
				if err != nil {
					t.Errorf("%+v: refused: %v", test.rules, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v: got %v, want %q", test.rules, err, test.want)
			}
			if fields := FieldsOf(err); !slices.Equal(fields, []string{"url"}) {
				t.Errorf("names %v", fields)
			}
		})
	}
}

func TestNoHostIsTrustedWithoutAList(t *testing.T) {
	t.Parallel()
	if err := CheckURL(URLRules{}, "http://127.0.0.1/", nil); err == nil {
		t.Error("http to an untrusted address was taken")
	}
	asked := false
	_ = CheckURL(URLRules{}, "http://internal.test/", func(string) bool { asked = true; return true })
	if asked {
		t.Error("a name other than localhost was asked for")
	}
}

func FuzzCheckURL(f *testing.F) {
	f.Add("https://user:p@hooks.acme.test:443/wa?x=%20&y")
	f.Add("https://[fe80::1%25eth0]/")
	f.Fuzz(func(t *testing.T, raw string) {
		if CheckURL(URLRules{Only443: true}, raw, nil) != nil {
			return
		}
		request, err := http.NewRequest(http.MethodPost, raw, nil)
		if err != nil {
			t.Fatalf("%q was taken but can't be requested: %v", raw, err)
		}
		u, err := url.Parse(request.URL.String())
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && u.Port() != "443" || u.Fragment != "" {
			t.Errorf("%q was taken as %v, %v", raw, u, err)
		}
	})
}

func TestCheckHeaders(t *testing.T) {
	t.Parallel()
	many := func(n int) map[string]waypost.Secret {
		headers := map[string]waypost.Secret{}
		for i := range n {
			headers[fmt.Sprintf("X-%d", i)] = "v"
		}
		return headers
	}
	tests := map[string]struct {
		headers map[string]waypost.Secret
		refused []string
	}{
		"none":           {nil, nil},
		"usual ones":     {map[string]waypost.Secret{"Authorization": "Basic dTpw", "X_Acme-1": "", "User-Agent": "é"}, nil},
		"twenty":         {many(20), nil},
		"too many":       {many(21), []string{"headers"}},
		"too long":       {map[string]waypost.Secret{"A": waypost.Secret(strings.Repeat("x", 4096)), "B": waypost.Secret(strings.Repeat("x", 4097))}, []string{"headers.B"}},
		"a bad name":     {map[string]waypost.Secret{"X Acme": "v"}, []string{"headers.X Acme"}},
		"an empty name":  {map[string]waypost.Secret{"": "v"}, []string{"headers."}},
		"a broken line":  {map[string]waypost.Secret{"A": "x\r\nHost: b"}, []string{"headers.A"}},
		"twice":          {map[string]waypost.Secret{"A": "1", "a": "2"}, []string{"headers.a"}},
		"JSON":           {map[string]waypost.Secret{"content-type": "application/json; charset=utf-8"}, nil},
		"not JSON":       {map[string]waypost.Secret{"content-type": "application/jsonx"}, []string{"headers.content-type"}},
		"the connection": {map[string]waypost.Secret{"HOST": "h", "Proxy-Authorization": "p", "te": "t"}, []string{"headers.HOST", "headers.Proxy-Authorization", "headers.te"}},
		"our signatures": {map[string]waypost.Secret{"X-Hub-Signature-256": "s", "x-360dialog-signature": "s", "Webhook-Id": "s"}, []string{"headers.Webhook-Id", "headers.X-Hub-Signature-256", "headers.x-360dialog-signature"}},
		"lengths":        {map[string]waypost.Secret{"Content-Length": "1", "Transfer-Encoding": "chunked"}, []string{"headers.Content-Length", "headers.Transfer-Encoding"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckHeaders(test.headers)
			if (err != nil) != (test.refused != nil) {
				t.Fatalf("got %v", err)
			}
			got := FieldsOf(err)
			slices.Sort(got)
			if test.refused != nil && !slices.Equal(got, test.refused) {
				t.Errorf("refused %q, want %q", got, test.refused)
			}
			if err != nil && strings.Contains(err.Error(), "Host: b") {
				t.Errorf("the refusal shows a value: %v", err)
			}
		})
	}
}

func TestCheckOptions(t *testing.T) {
	t.Parallel()
	info := Info{ID: "x", Options: []Option{
		{Name: "payload", Type: OptionText, Enum: []string{"a", "b"}},
		{Name: "token", Type: OptionText},
		{Name: "on", Type: OptionFlag},
		{Name: "days", Type: OptionInteger},
		{Name: "hidden", Type: OptionFlag, Internal: true},
	}}
	good := map[string]any{"payload": "a", "token": "", "on": false, "days": float64(7)}
	if faults := CheckPublicOptions(info, good); faults != nil {
		t.Errorf("refused: %v", faults)
	}
	bad := map[string]any{"payload": "c", "token": nil, "on": "true", "days": 7.5, "hidden": true, "other": 1}
	names := func(faults []waypost.FieldError) (names []string) {
		for _, fault := range faults {
			names = append(names, fault.Field)
		}
		return names
	}
	want := []string{"options.days", "options.on", "options.other", "options.payload", "options.token"}
	if diff := cmp.Diff(want, names(CheckOptions(info, bad))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	want = append([]string{"options.days", "options.hidden"}, want[1:]...)
	if diff := cmp.Diff(want, names(CheckPublicOptions(info, bad))); diff != "" {
		t.Errorf("public (-want +got)\n%s", diff)
	}
}

func TestCheckEndpointNamesAllFaults(t *testing.T) {
	t.Parallel()
	endpoint := waypost.Endpoint{
		URL: "http://a.test", Headers: map[string]waypost.Secret{"Host": "h"},
		Options: map[string]any{"o": 1}, Events: []string{"whatsapp.*", "a b"},
	}
	err := CheckEndpoint(Info{ID: "x"}, &endpoint, nil)
	if diff := cmp.Diff([]string{"url", "headers.Host", "options.o", "events"}, FieldsOf(err)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := CheckEndpoint(Info{ID: "x"}, &waypost.Endpoint{}, nil); err != nil {
		t.Errorf("an endpoint without URL was refused: %v", err)
	}
}

func TestStatusOfEveryKind(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for _, kind := range waypost.Kinds() {
		seen[StatusOf(fmt.Errorf("x: %w", waypost.Errorf(kind, "m")))] = true
	}
	want := []int{400, 401, 403, 404, 409, 413, 429, 500, 503}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if StatusOf(errors.New("x")) != 500 || StatusOf(fmt.Errorf("x: %w", ErrMethod)) != 405 {
		t.Error("an error without a kind is not 500, or ErrMethod not 405")
	}
}
