package main

import (
	"math"
	"testing"
	"time"
)

func TestPercentileIsByNearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		name   string
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.999, 7},
		{"half of a hundred", hundred, 0.5, 50},
		{"99 of a hundred", hundred, 0.99, 99},
		{"99.9 of a hundred", hundred, 0.999, 100},
		{"the least", hundred, 0, 1},
		{"the greatest", hundred, 1, 100},
	} {
		if got := percentile(c.values, c.q); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	values := []float64{9, 1, 5}
	if got := median(values); got != 5 || values[0] != 9 {
		t.Errorf("odd: %v, values now %v", got, values)
	}
	if got := median([]float64{4, 1, 2, 100}); got != 3 {
		t.Errorf("even: %v", got)
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("none: %v", got)
	}
}

func TestSpread(t *testing.T) {
	if got := spread([]float64{9, 10, 12}); got != 0.3 {
		t.Errorf("%v", got)
	}
	if got := spread([]float64{9}); got != 0 {
		t.Errorf("one value: %v", got)
	}
}

func TestRatiosOfHTTP2AreToHTTP1(t *testing.T) {
	rows := []*row{
		{Work: "https", Proxy: "reference", Median: sample{keyCPU: 10}},
		{Work: "h2", Proxy: "reference", Median: sample{keyCPU: 15}},
		{Work: "h2", Proxy: "x", Median: sample{keyCPU: 30, keyFailed: 2}},
		{Work: "big", Proxy: "x", Median: sample{keyCPU: 30}},
	}
	compare(rows, works(settings{}))
	if got := rows[2].Ratio[keyCPU]; got != 3 {
		t.Errorf("h2: %v, want 3", got)
	}
	if _, ok := rows[2].Ratio[keyFailed]; ok {
		t.Error("failures have no ratio")
	}
	if rows[3].Ratio != nil {
		t.Errorf("without a reference: %v", rows[3].Ratio)
	}
}
