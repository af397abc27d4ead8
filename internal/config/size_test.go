package config

import "testing"

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0": 0, "4096": 4096, "64M": 64 << 20, "64m": 64 << 20, "1.5G": 3 << 29, "2 KiB": 2048, "1tb": 1 << 40, "10B": 10,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
		var again Size
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%d is shown as %q, which is read as %d, %v", got, got, again, err)
		}
	}
	for _, text := range []string{"", "M", "B", "-1", "-1K", "1X", "1MM", "0x10", "inf", "nan", "1e99", "10000000T", "one"} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}
