package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxQuestion bounds the body of a question to the operator's listener, in bytes.
const maxQuestion = 1 << 20

// readJSON reads the body of a request, one JSON value without names that into does not know. It reports false, and has answered, when
// it is none.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err == nil {
		err = decodeJSON(text, into)
	}
	if err == nil {
		return true
	}
	status := http.StatusBadRequest
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	WriteProblem(w, status, "the body is not as it should be: "+strings.TrimPrefix(err.Error(), "json: "), nil)
	return false
}

// decodeJSON takes no text in which package json would read something else than what is written: it puts U+FFFD in the place of what is no
// character, and that may be another URL.
func decodeJSON(text []byte, into any) error {
	switch {
	case !utf8.Valid(text):
		return errors.New("it is not UTF-8: write other bytes of a URL as %XX")
	case halfCharacter(text):
		return errors.New(`it has half a character: \ud800 to \udfff come in pairs`)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err == io.EOF {
		return errors.New("it is empty, and should be a JSON value")
	} else if err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// halfCharacter reports whether JSON has an escaped surrogate (RFC 8259 section 8.2) without the other one of its pair.
func halfCharacter(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 || i+1 == len(text) {
			return false
		}
		text = text[i:]
		c := escaped(text)
		switch {
		case !utf16.IsSurrogate(c):
			text = text[2:] // behind the letter: a backslash may be escaped
		case utf16.DecodeRune(c, escaped(text[6:])) == utf8.RuneError:
			return true
		default:
			text = text[12:]
		}
	}
}

// escaped is what \uXXXX at the begin of text stands for; 0 where there is no such thing.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}
