package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written plainly or with one of the suffixes K, M, G
// and T, which stand for powers of 1024: 64M, 1.5G. KB and KiB mean the same.
type Size int64

const sizeSuffixes = "KMGT"

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	number := strings.ToUpper(strings.TrimSpace(string(text)))
	number = strings.TrimSuffix(strings.TrimSuffix(number, "B"), "I")
	factor := 1.0
	if power := strings.IndexByte(sizeSuffixes, last(number)) + 1; power > 0 {
		factor = float64(int64(1) << (10 * power))
		number = strings.TrimSpace(number[:len(number)-1])
	}
	n, err := strconv.ParseFloat(number, 64)
	bytes := n * factor
	if err != nil || !strings.ContainsAny(number, "0123456789") || !(bytes >= 0 && bytes < 1<<62) {
		return fmt.Errorf("%q is not a size: write it like 64M or 1.5G", text)
	}
	*s = Size(bytes)
	return nil
}

// last is the last byte of a text; of an empty one, a byte that is no suffix.
func last(text string) byte {
	if text == "" {
		return 0
	}
	return text[len(text)-1]
}

// String writes the size with the largest suffix that keeps it whole.
func (s Size) String() string {
	n, suffix := int64(s), ""
	for i := 0; i < len(sizeSuffixes) && n != 0 && n%1024 == 0; i++ {
		n, suffix = n/1024, sizeSuffixes[i:i+1]
	}
	return strconv.FormatInt(n, 10) + suffix
}
