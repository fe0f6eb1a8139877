package main

import (
	"fmt"
	"math"
	"strconv"
)

// Numbers for people, in columns: three digits or so and a unit.

// shortSeconds writes a time given in seconds: 45µs, 1.2ms, 340ms, 3.4s, 2m5s.
func shortSeconds(s float64) string {
	switch {
	case s >= 60:
		return fmt.Sprintf("%dm%ds", int(s)/60, int(s)%60)
	case s >= .9995:
		return short(s) + "s"
	case s >= .0009995:
		return short(s*1e3) + "ms"
	default:
		return short(s*1e6) + "µs"
	}
}

// shortBytes writes a size in powers of 1024: 0, 512, 1.5K, 240M.
func shortBytes(n float64) string {
	if n < 1024 {
		return strconv.Itoa(int(n))
	}
	units := "KMGTPE"
	for i := range units {
		if n /= 1024; n < 1023.5 || i == len(units)-1 {
			return short(n) + units[i:i+1]
		}
	}
	return "" // not reached: the last unit takes all
}

// sizeText writes a size in a sentence: 1 byte, 512 bytes, 1.5 KiB, 240 MiB.
func sizeText(n int64) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 1024:
		return strconv.FormatInt(n, 10) + " bytes"
	}
	text := shortBytes(float64(n))
	return text[:len(text)-1] + " " + text[len(text)-1:] + "iB"
}

// quantity writes a number of things in a sentence: 1 response, 12,345 responses.
func quantity(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// grouped writes a number with its digits in groups of three.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// shortCount writes a number, or a rate, in powers of 1000: 0, 0.4, 12, 1234, 45.6k, 1.2M.
func shortCount(n float64) string {
	switch {
	case n < 9999.5:
		return short(n)
	case n < 999.5e3:
		return short(n/1e3) + "k"
	default:
		return short(n/1e6) + "M"
	}
}

// short writes a number of which a tenth matters only below 10, or nowhere.
func short(n float64) string {
	if n >= 9.95 || n == math.Trunc(n) {
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'f', 1, 64)
}
