package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/policy"
)

// fullDraft uses every field of the encoding.
func fullDraft() Draft {
	at := time.Unix(1_800_000_000, 123_456_789)
	return Draft{
		Key:        policy.Key{URL: "https://a.example/p?q=1", Extras: "\x01x"},
		Nomination: "accept-encoding", Selection: []byte("\x04gzip"),
		Status: 206,
		Header: http.Header{
			"Etag": {`"v1"`}, "Content-Range": {"bytes 2-6/10"}, "Set-Cookie": {"a=1", "b=2"}, "Last-Modified": {"Mon, 07 Nov 1994 08:49:37 GMT"},
			"Date": {"Sun, 06 Nov 1994 08:49:37 GMT"}, "Empty": {""}, "Absent": {},
		},
		Body: []byte("hello"), Partial: true, Part: policy.Part{ByteRange: policy.ByteRange{First: 2, Last: 6}, Total: 10},
		Freshness: policy.Freshness{
			Born: at.Add(-time.Second), Lifetime: time.Minute, StaleWhileRevalidate: time.Second, StaleIfError: time.Hour,
			NoCache: true, MustRevalidate: true, Immutable: true, Heuristic: true, Validator: true,
		},
		ResponseTime: at.Add(time.Millisecond), Tags: []string{"b", "", "a"}, KeepUntil: at.Add(time.Hour),
		Epoch: 0xe1, BodyAsOf: 0xb2, ValidAsOf: 0xa3, StaleSince: 0x54, Fill: 0xf111f111f111f111, RuleGeneration: 7,
	}
}

// The bytes of version 1 are a contract with every Redis that holds them.
func TestEncodingVersion1(t *testing.T) {
	e := mustEntry(t, fullDraft())
	want := "43504501" + "0000003f" + // magic, version, flags
		"0000000000000054" + "0000000000000000" + "00000000000000e1" + "00000000000000b2" + "00000000000000a3" + "f111f111f111f111" +
		"18fae2765f750315" + "0000000df8475800" + "000000003b9aca00" + "0000034630b8a000" + // born, lifetime, windows
		"18fae2769b1f0f55" + "18fae5bccbc86d15" + // response, keep until
		"0000000000000005" + "00000007" + "00ce" + "0003" + "00000007" + // body, generation, status, tags, lines
		"000000b7" + "000000b9" + "000000c8" + "000000cd" + "00000174" + "00000194" + // ends
		"00510004" + "0066001d" + "0023001d" // places of ETag, Last-Modified, Date
	if got := hex.EncodeToString(e.bytes(0, preambleLen)); got != want {
		t.Errorf("preamble\n got %s\nwant %s", got, want)
	}
	head := "https://a.example/p?q=1\x01xaccept-encoding\x04gzip" +
		"Content-Range: bytes 2-6/10\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nEmpty: \r\nEtag: \"v1\"\r\n" +
		"Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" +
		"\x00\x01b\x00\x00\x00\x01a" +
		"\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x0a"
	headEnd := e.u32(atHeadEnd)
	if got := string(e.bytes(preambleLen, headEnd)); got != head {
		t.Errorf("head\n got %q\nwant %q", got, head)
	}
	if got := hex.EncodeToString(e.bytes(headEnd, headEnd+digestLen)); got != "66918f922a6b2487" {
		t.Errorf("digest %s", got)
	}
	if got := string(e.bytes(headEnd+digestLen, e.end())); got != "hello" {
		t.Errorf("body %q", got)
	}
}

func TestEntrySaysWhatWasDrafted(t *testing.T) {
	d := fullDraft()
	made := mustEntry(t, d)
	decoded, err := Decode(bytes.Clone(made.block()))
	if err != nil {
		t.Fatal(err)
	}
	delete(d.Header, "Absent") // a name without values is not stored
	for name, e := range map[string]*Entry{"made": made, "decoded": decoded} {
		t.Run(name, func(t *testing.T) {
			if got := e.Redraft(); !reflect.DeepEqual(got, d) {
				t.Errorf("redraft\n got %+v\nwant %+v", got, d)
			}
			if e.ETag() != `"v1"` || e.LastModified() != d.Header.Get("Last-Modified") || e.Date() != d.Header.Get("Date") {
				t.Errorf("etag %q, last-modified %q, date %q", e.ETag(), e.LastModified(), e.Date())
			}
			if v, ok := e.Field("set-cookie"); !ok || v != "a=1" {
				t.Errorf("Field: %q %v", v, ok)
			}
			if v, ok := e.Field("Empty"); !ok || v != "" {
				t.Errorf("Field: %q %v", v, ok)
			}
			if _, ok := e.Field("Cookie"); ok {
				t.Error("Field found what is not there")
			}
		})
	}
	plain := mustEntry(t, Draft{Status: 200, KeepUntil: time.Unix(1, 0)})
	if plain.Fill() == 0 || plain.ETag() != "" || plain.Date() != "" || len(plain.Body()) != 0 || plain.Tags() != nil {
		t.Errorf("%+v", plain.Redraft())
	}
	if _, partial := plain.Part(); partial {
		t.Error("partial")
	}
}

func TestNewEntryRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Draft){
		"no KeepUntil":         func(d *Draft) { d.KeepUntil = time.Time{} },
		"vary star":            func(d *Draft) { d.Nomination = policy.NominationStar },
		"status 99":            func(d *Draft) { d.Status = 99 },
		"status 1000":          func(d *Draft) { d.Status = 1000 },
		"part of other length": func(d *Draft) { d.Part.Last++ },
		"part before 0":        func(d *Draft) { d.Part.First, d.Part.Last = -1, 3 },
		"part beyond total":    func(d *Draft) { d.Part.Total = 6 },
		"empty name":           func(d *Draft) { d.Header[""] = []string{"v"} },
		"name with colon":      func(d *Draft) { d.Header["A:b"] = []string{"v"} },
		"name with space":      func(d *Draft) { d.Header["A "] = []string{"v"} },
		"value with CR":        func(d *Draft) { d.Header["A"] = []string{"v\rSet-Cookie: x"} },
		"value with LF":        func(d *Draft) { d.Header["A"] = []string{"ok", "v\nSet-Cookie: x"} },
		"value with NUL":       func(d *Draft) { d.Header["A"] = []string{"v\x00"} },
		"chunks beside a body": func(d *Draft) { d.Chunked, d.Length, d.Partial = true, 5, false },
		"chunks of a part":     func(d *Draft) { d.Chunked, d.Length, d.Body = true, 5, nil },
		"chunks of nothing":    func(d *Draft) { d.Chunked, d.Partial, d.Body = true, false, nil },
		"chunks of no fetch":   func(d *Draft) { d.Chunked, d.Length, d.Partial, d.Body, d.Fill = true, 5, false, nil, 0 },
		"long tag":             func(d *Draft) { d.Tags = []string{strings.Repeat("t", math.MaxUint16+1)} },
		"many tags":            func(d *Draft) { d.Tags = make([]string, math.MaxUint16+1) },
	} {
		d := fullDraft()
		spoil(&d)
		if e, err := NewEntry(d); err == nil || !strings.HasPrefix(err.Error(), "store: new entry: ") {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
}

func TestInstants(t *testing.T) {
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(0, -1), time.Unix(1_800_000_000, 999_999_999), time.Unix(0, math.MinInt64+1), time.Unix(0, math.MaxInt64),
	} {
		if got := timeOf(instant(at)); !got.Equal(at) {
			t.Errorf("%v became %v", at, got)
		}
	}
	for at, want := range map[time.Time]int64{
		time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): math.MaxInt64,
		time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC): math.MinInt64 + 1,
	} {
		if got := instant(at); got != want {
			t.Errorf("%v became %d", at, got)
		}
	}
}

func TestDecodeRefusesEveryChange(t *testing.T) {
	block := mustEntry(t, fullDraft()).block()
	for i := range block {
		for bit := range 8 {
			changed := bytes.Clone(block)
			changed[i] ^= 1 << bit
			e, err := Decode(changed)
			switch {
			case i >= atStaleSince && i < atChecked: // set in place by a soft purge
				if err != nil || e.StaleSince() == 0x54 {
					t.Fatalf("byte %d, bit %d: %v", i, bit, err)
				}
			case !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer):
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			case errors.Is(err, ErrNewer) && i != atVersion && (i < atFlags || i >= atStaleSince):
				t.Fatalf("byte %d, bit %d is no matter of versions", i, bit)
			}
		}
	}
	for n := range block {
		if _, err := Decode(block[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(block), 0)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a byte more: %v", err)
	}
}

// reseal gives a changed copy of a block a digest that fits, so that what is behind the digest is tested too.
func reseal(block []byte, change func([]byte)) []byte {
	headEnd := int(getU32(block, atHeadEnd))
	block = bytes.Clone(block)
	change(block)
	putU64(block, headEnd, digest(block, headEnd))
	return block
}

func TestDecodeRefusesWhatNoEncoderWrites(t *testing.T) {
	e := mustEntry(t, fullDraft())
	tagsEnd, fieldsEnd := int(e.tagsEnd()), int(e.u32(atFieldsEnd))
	whole := fullDraft()
	whole.Partial, whole.Tags = false, nil
	field := func(old, new string) func([]byte) {
		return func(b []byte) { copy(b[bytes.Index(b, []byte(old)):], new) }
	}
	for name, change := range map[string]func([]byte){
		"fill 0":              func(b []byte) { putU64(b, atFill, 0) },
		"no expiry":           func(b []byte) { putI64(b, atKeepUntil, unset) },
		"status":              func(b []byte) { b[atStatus] = 0xff },
		"part":                func(b []byte) { putI64(b, tagsEnd+8, 7) },
		"line count":          func(b []byte) { putU32(b, atLineCount, 1<<31) },
		"tag count":           func(b []byte) { b[atTagCount+1]-- },
		"tag beyond its end":  func(b []byte) { b[tagsEnd-2]++ },
		"tag cut":             func(b []byte) { b[tagsEnd-2] = 0 },
		"ends out of order":   func(b []byte) { putU32(b, atExtrasEnd, getU32(b, atURLEnd)-1) },
		"URL before its time": func(b []byte) { putU32(b, atURLEnd, preambleLen-1) },
		"place of the ETag":   func(b []byte) { b[atETag+1]++ },
		"length of the Date":  func(b []byte) { b[atDate+3]-- },
		"no place":            func(b []byte) { putU32(b, atLastModified, 0) },
		"far place":           func(b []byte) { putU32(b, atLastModified, placeFar) },
		"fields unsorted":     field("Date: S", "Zate: S"),
		"no name":             field("Content-Range: ", ":::::::::::::: "),
		"bad name":            field("Content-Range: ", "Content Range: "),
		"no space":            field("Empty: ", "Empty::"),
		"no line end":         field("Empty: \r\n", "Empty: \rX"),
		"LF in a value":       field("a=1\r\n", "a\n1\r\n"),
		"all fields one":      func(b []byte) { copy(b[e.u32(atSelectionEnd):fieldsEnd], bytes.Repeat([]byte("x"), 9999)) },
	} {
		if _, err := Decode(reseal(e.block(), change)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Decode(reseal(mustEntry(t, whole).block(), func(b []byte) { b[atFlags+3] |= flagPartial })); !errors.Is(err, ErrCorrupt) {
		t.Errorf("part of a whole: %v", err)
	}
	star := fullDraft()
	star.Nomination = "x"
	s := mustEntry(t, star)
	if _, err := Decode(reseal(s.block(), func(b []byte) { b[s.u32(atExtrasEnd)] = '*' })); !errors.Is(err, ErrCorrupt) {
		t.Errorf("star: %v", err)
	}
}

// Places hold 16 bits; what lies beyond is found all the same.
func TestFieldsFarBehindAreFound(t *testing.T) {
	d := fullDraft()
	d.Header["A"] = []string{strings.Repeat("x", 1<<16)}
	d.Header.Set("Last-Modified", strings.Repeat("y", 1<<16))
	for _, far := range []bool{true, false} {
		e, err := Decode(mustEntry(t, d).block())
		if err != nil {
			t.Fatal(err)
		}
		if (e.u32(atETag) == placeFar) != far || e.u32(atLastModified) != placeFar {
			t.Errorf("places %x %x", e.u32(atETag), e.u32(atLastModified))
		}
		if e.ETag() != `"v1"` || e.LastModified() != d.Header.Get("Last-Modified") || e.Date() != d.Header.Get("Date") {
			t.Errorf("etag %q, date %q, last-modified of %d bytes", e.ETag(), e.Date(), len(e.LastModified()))
		}
		delete(d.Header, "A")
	}
}

func TestAppendTo(t *testing.T) {
	e := mustEntry(t, fullDraft())
	dst := http.Header{"Via": {"x"}, "Date": {"other", "two"}}
	rest := e.AppendTo(dst, 2)
	want := e.Header()
	want["Via"] = []string{"x"}
	if !reflect.DeepEqual(dst, want) {
		t.Errorf("got %v\nwant %v", dst, want)
	}
	if !slices.Equal(rest, []string{"", ""}) {
		t.Errorf("rest %q", rest)
	}
	for name, values := range dst {
		if name != "Via" && cap(values) != len(values) {
			t.Errorf("%s: appending to it would overwrite its neighbour", name)
		}
	}
	allocs := testing.AllocsPerRun(100, func() {
		e.AppendTo(dst, 2)
	})
	if allocs != 1 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	e := mustEntry(t, fullDraft())
	if n := testing.AllocsPerRun(100, func() {
		_, _, _, _, _ = e.ETag(), e.LastModified(), e.Date(), e.Freshness(), e.Body()
		_, _ = e.Field("last-modified")
		_, _, _ = e.URL(), e.Key(), e.Nomination()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Any bytes are an entry or an error, and an entry is encoded again as the same bytes.
func FuzzDecode(f *testing.F) {
	plain := draft("http://a.example/")
	chunked := draft("http://a.example/large")
	chunked.Body, chunked.Chunked, chunked.Length, chunked.Fill = nil, true, 5<<20, 1
	for _, d := range []Draft{fullDraft(), plain, chunked, {Status: 200, KeepUntil: time.Unix(1, 0)}, {Status: 404, KeepUntil: time.Unix(1, 0), Tags: []string{"a"}}} {
		e, err := NewEntry(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.block(), false)
		f.Add(e.block(), true)
	}
	for _, c := range []policy.Compression{policy.S2, policy.Zstd} {
		d := draft("http://a.example/packed")
		d.Compress, d.Body = c, bytes.Repeat([]byte("again "), 100)
		f.Add(packed(mustEntry(f, d)), false)
	}
	f.Fuzz(func(t *testing.T, block []byte, seal bool) {
		if seal && checkVersion(block) == nil && entryOf(block).fills(block) {
			block = reseal(block, func([]byte) {})
		}
		var e *Entry
		block, err := unpack(block)
		if err == nil {
			e, err = Decode(block)
		}
		if err != nil {
			if e != nil || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatal(e, err)
			}
			return
		}
		again, err := NewEntry(e.Redraft())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.block(), block) {
			t.Fatalf("encoded again\n got %q\nfrom %q", again.block(), block)
		}
	})
}
