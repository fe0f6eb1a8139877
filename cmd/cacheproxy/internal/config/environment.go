package config

import (
	"errors"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix begins the name of every environment variable that is a key.
const Prefix = "CACHEPROXY_"

// VariableOf returns the environment variable of a scalar key: CACHEPROXY_REDIS_URL for redis.url.
func VariableOf(path string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// serviceLink matches the variables that Kubernetes gives every pod for each service of its namespace. A service named
// cacheproxy makes them begin with our prefix: CACHEPROXY_PORT=tcp://10.0.0.7:80.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// environment lays variables over c. An empty variable is one that is not set. Names that are no key are refused, as unknown
// keys of a file are.
func (r *report) environment(environ []string, c *Config) {
	paths := map[string]string{}
	for _, l := range leavesOf(reflect.TypeFor[Config]()) {
		paths[VariableOf(l.path)] = l.path
	}
	given := env.ToMap(environ)
	names := make([]string, 0, len(given))
	for name, value := range given {
		if strings.HasPrefix(name, Prefix) && value != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		path, known := paths[name]
		if !known {
			if !serviceLink.MatchString(name) {
				r.source(name, "", "no such key", variableHint(name, paths))
			}
			continue
		}
		r.scalar(c, path, name, given[name])
	}
}

// scalar sets the key at path from text that source, a variable or a flag, gave. Scalars are parsed one at a time because the
// library's errors name the Go field and not the variable.
func (r *report) scalar(c *Config, path, source, text string) {
	environment := map[string]string{VariableOf(path): text}
	if err := env.ParseWithOptions(c, env.Options{Prefix: Prefix, Environment: environment}); err != nil {
		r.source(source, path, scalarError(err), "")
	}
	r.set(path, source)
}

// scalarError takes the innermost reason out of the library's error. Where that is strconv's, it is said as for a file.
func scalarError(err error) string {
	var parse env.ParseError
	if errors.As(err, &parse) { // which does not unwrap
		err = parse.Err
	}
	var number *strconv.NumError
	if !errors.As(err, &number) {
		return err.Error()
	}
	switch number.Func {
	case "ParseBool":
		return notBool(number.Num)
	case "ParseFloat":
		return notNumber(number.Num)
	default:
		return notWhole(number.Num, number.Err)
	}
}

func variableHint(name string, paths map[string]string) string {
	key := strings.ToLower(strings.TrimPrefix(name, Prefix))
	for _, list := range keysOf(reflect.TypeFor[Config]()) {
		if key == list {
			return list + " is a list or a map: it goes into the file"
		}
	}
	if near := nearest(name, sortedNames(paths)); near != "" {
		return "did you mean " + near + "?"
	}
	return "variables are " + Prefix + " and the path of a scalar key in capitals"
}
