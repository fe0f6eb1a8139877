package policy

import (
	"strconv"
	"strings"

	"github.com/dunglas/httpsfv"
)

// This file reads targeted cache control (RFC 9213): fields such as CDN-Cache-Control that speak to one kind of cache. They have
// the directives of Cache-Control but are a Dictionary of structured fields (RFC 9651), and so are read strictly: a field that
// is empty or does not parse is ignored whole, as if it were not there. Parameters of a member mean nothing.

// parseTargeted reads the lines of one targeted field; false when the field is to be ignored.
func parseTargeted(lines []string) (ResponseDirectives, bool) {
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return ResponseDirectives{}, false
	}
	d := ResponseDirectives{Targeted: true}
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		s := scanner{name: name, form: argMalformed}
		if item, ok := member.(httpsfv.Item); ok {
			if item.Value == false {
				continue // "no-store=?0" says that the directive is not given
			}
			s.arg, s.form = targetedArgument(name, item.Value)
		}
		d.set(&s)
	}
	return d, true
}

// secondsDirectives are the directives whose value is an Integer in a targeted field.
const secondsDirectives = " max-age s-maxage stale-while-revalidate stale-if-error "

// targetedArgument turns the value of a member into the argument of the directive of that name. A value of the wrong type is
// malformed: a lifetime is an Integer and not a String of digits (section 2.1).
func targetedArgument(name string, value any) (string, argForm) {
	isSeconds := strings.Contains(secondsDirectives, " "+name+" ")
	switch v := value.(type) {
	case bool:
		return "", argNone
	case int64:
		return strconv.FormatInt(v, 10), argToken
	case httpsfv.Token:
		if !isSeconds {
			return string(v), argToken
		}
	case string:
		if !isSeconds {
			return v, argQuoted
		}
	}
	return "", argMalformed
}
