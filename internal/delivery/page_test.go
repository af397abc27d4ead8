package delivery

import "testing"

func TestNextPage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ taken, bytes, want int }{
		{0, 0, firstPage},
		{4, 4 << 10, firstPage},
		{200, 200 << 10, pageSize},
		{16, 16 << 20, 4},      // 1 MiB each
		{1, 3 << 20, 1},        // one fills it
		{1, 5 << 20, 1},        // and one there must be
		{256, 2560 << 10, 256}, // 10 KiB each
	} {
		if got := nextPage(c.taken, c.bytes); got != c.want {
			t.Errorf("after %d deliveries with %d bytes %d are taken, want %d", c.taken, c.bytes, got, c.want)
		}
	}
}
