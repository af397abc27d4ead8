package connectly_test

import (
	"testing"

	"github.com/waypost-gateway/waypost/internal/dialect/connectly"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, connectly.New(), "testdata")
}

func FuzzSettings(f *testing.F) { dialecttest.Fuzz(f, connectly.New(), "testdata") }
