package policy

import "testing"

// RFC 9110 section 13 and RFC 9111 section 4.3.2: handling a received conditional request.
func TestRFC9110Section13Precondition(t *testing.T) {
	type fields struct{ etag, modified, date string }
	tagged := fields{etag: `"abcdef"`, modified: at(-3000), date: at(0)}
	dated := fields{modified: at(-3000), date: at(0)}
	for _, tt := range []struct {
		name   string
		method string
		lines  []string
		status int
		fields fields
		want   PreconditionResult
	}{
		{"none", "GET", nil, 200, tagged, PreconditionNone},
		{"If-Match", "GET", []string{`If-Match: "abcdef"`}, 200, tagged, PreconditionOrigin},
		{"If-Unmodified-Since", "GET", []string{"If-Unmodified-Since: @0"}, 200, tagged, PreconditionOrigin},
		{"If-Match and If-None-Match", "GET", []string{`If-Match: "x"`, `If-None-Match: "abcdef"`}, 200, tagged, PreconditionOrigin},

		{"If-None-Match", "GET", []string{`If-None-Match: "abcdef"`}, 200, tagged, NotModified},
		{"HEAD", "HEAD", []string{`If-None-Match: "abcdef"`}, 200, tagged, NotModified},
		{"POST", "POST", []string{`If-None-Match: "abcdef"`}, 200, tagged, PreconditionNone},
		{"404", "GET", []string{`If-None-Match: "abcdef"`}, 404, tagged, PreconditionNone},
		{"206", "GET", []string{`If-None-Match: "abcdef"`}, 206, tagged, NotModified},
		{"other tag", "GET", []string{`If-None-Match: "abc"`}, 200, tagged, PreconditionNone},
		{"no tag stored", "GET", []string{`If-None-Match: "abc"`}, 200, dated, PreconditionNone},
		{"empty", "GET", []string{"If-None-Match: "}, 200, tagged, PreconditionNone},
		{"star", "GET", []string{"If-None-Match: *"}, 200, dated, NotModified},
		{"first", "GET", []string{`If-None-Match: "abcdef", "1234", "5678"`}, 200, tagged, NotModified},
		{"middle", "GET", []string{`If-None-Match: "1234","abcdef" , "5678"`}, 200, tagged, NotModified},
		{"last", "GET", []string{`If-None-Match: "1234", "5678", "abcdef"`}, 200, tagged, NotModified},
		{"second line", "GET", []string{`If-None-Match: "1234"`, `If-None-Match: "abcdef"`}, 200, tagged, NotModified},
		{"comma in a tag", "GET", []string{`If-None-Match: "a,b"`}, 200, fields{etag: `"a,b"`}, NotModified},
		{"part of a tag", "GET", []string{`If-None-Match: "x,abcdef"`}, 200, tagged, PreconditionNone},
		{"moot If-Modified-Since", "GET", []string{`If-None-Match: "x"`, "If-Modified-Since: @0"}, 200, tagged, PreconditionNone},
		{"weak", "GET", []string{`If-None-Match: W/"abcdef"`}, 200, fields{etag: `W/"abcdef"`}, NotModified},
		{"weak and strong", "GET", []string{`If-None-Match: W/"abcdef"`}, 200, tagged, NotModified},
		{"lower-case flag", "GET", []string{`If-None-Match: w/"abcdef"`}, 200, fields{etag: `w/"abcdef"`}, NotModified},
		{"backslash", "GET", []string{`If-None-Match: W\"abcdef"`}, 200, fields{etag: `W\"abcdef"`}, NotModified},
		{"no slash", "GET", []string{`If-None-Match: W"abcdef"`}, 200, fields{etag: `W"abcdef"`}, NotModified},
		{"unquoted request", "GET", []string{"If-None-Match: abcdef"}, 200, tagged, NotModified},
		{"unquoted both", "GET", []string{"If-None-Match: abcdef"}, 200, fields{etag: "abcdef"}, NotModified},
		{"unquoted stored", "GET", []string{`If-None-Match: "abcdef"`}, 200, fields{etag: "abcdef"}, NotModified},
		{"unquoted, starts with w", "GET", []string{"If-None-Match: wabc"}, 200, fields{etag: "wabc"}, NotModified},
		{"only w", "GET", []string{"If-None-Match: w"}, 200, tagged, PreconditionNone},
		{"open quote", "GET", []string{`If-None-Match: "abcdef`}, 200, tagged, PreconditionNone},
		{"empty tags", "GET", []string{`If-None-Match: ""`}, 200, fields{etag: `""`}, NotModified},

		{"If-Modified-Since, same", "GET", []string{"If-Modified-Since: @-3000"}, 200, dated, NotModified},
		{"later", "GET", []string{"If-Modified-Since: @-2000"}, 200, dated, NotModified},
		{"earlier", "GET", []string{"If-Modified-Since: @-4000"}, 200, dated, PreconditionNone},
		{"RFC 850", "GET", []string{"If-Modified-Since: Saturday, 14-Mar-26 14:19:26 GMT"}, 200, dated, NotModified},
		{"twice", "GET", []string{"If-Modified-Since: @0", "If-Modified-Since: @0"}, 200, dated, PreconditionNone},
		{"no date", "GET", []string{"If-Modified-Since: yesterday"}, 200, dated, PreconditionNone},
		{"no Last-Modified, after Date", "GET", []string{"If-Modified-Since: @1"}, 200, fields{date: at(0)}, NotModified},
		{"no Last-Modified, before Date", "GET", []string{"If-Modified-Since: @-3000"}, 200, fields{date: at(0)}, PreconditionNone},
		{"nothing to compare", "GET", []string{"If-Modified-Since: @-3000"}, 200, fields{}, PreconditionNone},
		{"Last-Modified is no date", "GET", []string{"If-Modified-Since: @0"}, 200, fields{modified: "x"}, PreconditionNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Precondition(request(tt.method, tt.lines...), tt.status, tt.fields.etag, tt.fields.modified, tt.fields.date)
			if got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// RFC 9110 section 8.8.3.2: comparing entity tags; the table of the RFC.
func TestRFC9110Section8_8_3_2Compare(t *testing.T) {
	for _, tt := range []struct {
		a, b         string
		strong, weak bool
	}{
		{`W/"1"`, `W/"1"`, false, true},
		{`W/"1"`, `W/"2"`, false, false},
		{`W/"1"`, `"1"`, false, true},
		{`"1"`, `"1"`, true, true},
		{"", "", false, false},
		{`"1" `, `"1" `, false, true},
		{`"`, `"`, false, true},
		{"1", "1", false, true},
	} {
		if got := stronglyEqual(tt.a, tt.b); got != tt.strong {
			t.Errorf("%q %q strongly: %v", tt.a, tt.b, got)
		}
		if got := weaklyEqual(tt.a, tt.b); got != tt.weak {
			t.Errorf("%q %q weakly: %v", tt.a, tt.b, got)
		}
	}
}
