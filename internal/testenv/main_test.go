package testenv_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
