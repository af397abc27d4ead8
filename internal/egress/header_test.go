package egress

import (
	"net/http"
	"testing"
)

func TestAnswersAreAskedForHeaders(t *testing.T) {
	t.Parallel()
	for source, h := range map[string]Header{
		"our reader": "A: first\r\nretry-AFTER: \t7 \r\nRetry-After: 8\r\nEmpty:\r\nB: a: b\r\n",
		"net/http":   linesOf(http.Header{"A": {"first"}, "Retry-After": {"7", "8"}, "Empty": {""}, "B": {"a: b"}}),
	} {
		for name, want := range map[string]string{
			"A": "first", "a": "first", "Retry-After": "7", "Empty": "", "B": "a: b", "Retry": "", "first": "",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", source, name, got, want)
			}
		}
	}
	if got := Header("").Get("A"); got != "" {
		t.Errorf("no header has %q", got)
	}
}
