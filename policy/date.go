package policy

import (
	"net/http"
	"strings"
	"time"
)

// parseDate parses an HTTP-date in the three forms of RFC 9110 section 5.6.7. The two digits of a year in the RFC 850 form mean
// a year of the century of now, or of the one before where that would be more than 50 years ahead. Where now is zero, they mean
// a year of 1969 to 2068.
func parseDate(v string, now time.Time) (time.Time, bool) {
	if !strings.HasSuffix(v, "GMT") {
		if v == "" {
			return time.Time{}, false // the usual case of an absent field; a failed time.Parse allocates
		}
		t, err := time.Parse(time.ANSIC, v)
		return t, err == nil
	}
	if len(v) == len(http.TimeFormat) {
		if t, err := time.Parse(http.TimeFormat, v); err == nil {
			return t, true
		}
	}
	t, err := time.Parse(time.RFC850, v)
	if err != nil || now.IsZero() {
		return t.UTC(), err == nil
	}
	century := now.UTC().Year() - now.UTC().Year()%100
	year := century + t.Year()%100
	t = time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	if t.After(now.AddDate(50, 0, 0)) {
		t = t.AddDate(-100, 0, 0)
	}
	return t, true
}

// dateOf returns the date in the field of that canonical name; false where it is absent, repeated or no date.
func dateOf(h http.Header, name string, now time.Time) (time.Time, bool) {
	lines := h[name]
	if len(lines) != 1 {
		return time.Time{}, false
	}
	return parseDate(lines[0], now)
}
