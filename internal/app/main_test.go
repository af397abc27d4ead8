package app_test

import (
	"os"
	"testing"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// roleVariable makes this test binary run as another process of a test.
const roleVariable = "WAYPOST_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "crowd" {
		runCrowd()
		return
	}
	pgtest.Main(m)
}
