package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

// framed is a connection of HTTP/2 whose frames are written by hand.
type framed struct {
	net.Conn
	*http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
}

// speak begins HTTP/2 on a connection.
func speak(t testing.TB, conn net.Conn) *framed {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(limit))
	f := &framed{Conn: conn, Framer: http2.NewFramer(conn, conn)}
	f.encoder = hpack.NewEncoder(&f.block)
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// fields are pairs of name and value.
type fields [][2]string

// encode makes a block of them.
func (f *framed) encode(list fields) []byte {
	f.block.Reset()
	for _, field := range list {
		_ = f.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // into memory
	}
	return f.block.Bytes()
}

// request writes a request: content and trailers where there are any.
func (f *framed) request(stream uint32, head fields, content string, trailers fields) {
	// What cannot be written, as the other side has seen enough, is read.
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.encode(head), EndHeaders: true, EndStream: content == "" && trailers == nil})
	if content != "" {
		_ = f.WriteData(stream, trailers == nil, []byte(content))
	}
	if trailers != nil {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.encode(trailers), EndHeaders: true, EndStream: true})
	}
}

// answer reads what the stream is answered, as shapes have it: a status with content or reason, or how the stream or all ended.
func (f *framed) answer(stream uint32) string {
	text, detail := "", ""
	var content []byte
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return "silent"
			}
			return "closed"
		}
		if goAway, ok := frame.(*http2.GoAwayFrame); ok && goAway.ErrCode != http2.ErrCodeNo {
			return "goaway " + goAway.ErrCode.String()
		}
		if frame.Header().StreamID != stream {
			continue
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			return strings.TrimSpace(text + " reset " + frame.ErrCode.String())
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				switch found := ownWords.FindStringSubmatch(field.Value); {
				case field.Name == ":status":
					text = field.Value
				case field.Name == "cache-status" && found != nil && text >= "400":
					detail = " " + found[1]
				}
			}
		case *http2.DataFrame:
			content = append(content, frame.Data()...)
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) && text >= "200" {
			if detail == "" && len(content) > 0 {
				detail = " " + readable(content)
			}
			return text + detail
		}
	}
}

// h2Shape is what is sent over HTTP/2, and what must come of it.
type h2Shape struct {
	name     string
	head     fields
	content  string
	trailers fields
	want     outcome
}

// plainHead is what a line ": ..." stands for.
var plainHead = fields{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/x"}}

// readH2Shapes reads testdata/shapes/h2: ": name value" is a field, without a value none, ": + name value" one behind those of a plain GET of
// http://a/x, ": = name value" one in place of that; "| " content, ": ~ name value" a trailer.
func readH2Shapes(t testing.TB) (all []*h2Shape) {
	t.Helper()
	text, err := os.ReadFile(h2File)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		mark, rest, _ := strings.Cut(line, " ")
		if mark == "=" {
			all = append(all, &h2Shape{name: rest, head: slices.Clone(plainHead)})
			continue
		}
		if line == "" || mark == "#" {
			continue
		}
		s := all[len(all)-1]
		switch mark {
		case ":":
			s.field(rest)
		case "|":
			s.content += string(spelled(rest + `\c`))
		case "->":
			s.want.responses = append(s.want.responses, rest)
		case "=>":
			s.want.requests = append(s.want.requests, rest)
		case "*":
			s.want.stored = append(s.want.stored, rest)
		default:
			t.Fatalf("line %d: no mark: %s", i+1, line)
		}
	}
	return all
}

const h2File = "testdata/shapes/h2/downgrade.txt"

func (s *h2Shape) field(text string) {
	how, text, _ := strings.Cut(text, " ")
	name, value, _ := strings.Cut(text, " ")
	field := [2]string{string(spelled(name + `\c`)), string(spelled(value + `\c`))}
	is := func(f [2]string) bool { return f[0] == field[0] }
	switch how {
	case "+":
		s.head = append(s.head, field)
	case "^":
		s.head = append(fields{field}, s.head...)
	case "-":
		s.head = slices.DeleteFunc(s.head, is)
	case "=":
		s.head[slices.IndexFunc(s.head, is)] = field
	case "~":
		s.trailers = append(s.trailers, field)
	}
}

// Requests over HTTP/2 become requests of HTTP/1.1: what that could change the meaning of is refused, with prior knowledge as over TLS.
func TestH2Shapes(t *testing.T) {
	var mu sync.Mutex
	came := map[string]*outcome{}
	t.Run("all", func(t *testing.T) {
		for _, secure := range []bool{false, true} {
			for _, s := range readH2Shapes(t) {
				t.Run(fmt.Sprintf("TLS=%v/%s", secure, s.name), func(t *testing.T) {
					t.Parallel()
					o := s.run(t, secure)
					mu.Lock()
					came["downgrade/"+s.name] = o
					mu.Unlock()
					if got, want := strings.Join(o.lines(), "\n"), strings.Join(s.want.lines(), "\n"); got != want && !*update {
						t.Errorf("came\n%s\nwant\n%s", got, want)
					}
				})
			}
		}
	})
	if *update {
		rewriteShapes(t, h2File, came)
	}
}

func (s *h2Shape) run(t *testing.T, secure bool) *outcome {
	k := newStackOn(t, nil, stackOptions{secure: secure})
	before := k.dialH2(t, secure)
	attacker := k.dialH2(t, secure)
	o := &outcome{}
	before.wants(t, 1, "before")
	attacker.request(1, s.head, s.content, s.trailers)
	o.responses = append(o.responses, attacker.answer(1))
	before.wants(t, 3, "victim")
	attacker.ask(3, "next")
	if got := attacker.answer(3); got != "200 "+pageBody("next") { // content behind fields that opened no stream ends the connection
		o.responses = append(o.responses, got)
	}
	before.Close()
	attacker.Close()
	k.close(t)
	watch := &shape{}
	watch.received(t, k, o)
	watch.kept(t, k, o)
	if secure {
		for i := range o.stored {
			o.stored[i] = "http" + strings.TrimPrefix(o.stored[i], "https")
		}
	}
	return o
}

func (k *stack) dialH2(t testing.TB, secure bool) *framed {
	t.Helper()
	conn, err := net.Dial("tcp", k.address)
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) // the certificate is a test's
	}
	return speak(t, conn)
}

// ask asks for a page.
func (f *framed) ask(stream uint32, name string) {
	f.request(stream, fields{{":method", "GET"}, {":scheme", "http"}, {":authority", name + ".example"}, {":path", "/" + name}}, "", nil)
}

// wants asks for a page and wants what the upstream says to nobody else.
func (f *framed) wants(t testing.TB, stream uint32, name string) {
	t.Helper()
	_ = f.SetDeadline(time.Now().Add(limit))
	f.ask(stream, name)
	if got := f.answer(stream); got != "200 "+pageBody(name) {
		t.Errorf("stream %d asked for %s and got %s", stream, name, got)
	}
}

// selfSigned writes the certificate that httptest has for such servers.
func selfSigned(t testing.TB) config.Certificate {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := config.Certificate{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for name, block := range map[string]*pem.Block{
		files.Cert: {Type: "CERTIFICATE", Bytes: server.Certificate().Raw},
		files.Key:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
