package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
	"cacheproxy/invalidation"
	"cacheproxy/proxy"
)

func newEntries() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "entries URL",
		Short: "Show what is stored of a URL",
		Long: `Entries asks a running cacheproxy, on its operator's listener, what is stored of a cache URL (explain shows it as "key"): each variant with
what a request must have to be answered by it, in its own memory (near) and in Redis, with status, age, lifetime, tags and sizes, and whether
a purge forbids it. A URL without a scheme is of any. Nothing is fetched, counted or made likelier to be kept by asking.

Values of Authorization, Cookie, session fields and of what log.redact names are not shown.`,
		Example: `  cacheproxy entries https://shop.example/products/1
  cacheproxy entries shop.example/products/1 --json`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) != 1 {
				return errors.New("entries needs one URL")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			var stored admin.Stored
			return askAndPrint(cmd, "/v1/entries", url.Values{"url": {arguments[0]}}, &stored, asJSON, func(s *sheet) { s.storedOf(&stored) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addOperator(cmd)
	return cmd
}

func (s *sheet) storedOf(o *admin.Stored) {
	if o.Redis == "failed" {
		s.row("redis", "could not be asked: %s", printable(o.Detail))
	}
	if len(o.Variants) == 0 {
		s.printf("%s\n", printable(o.URL))
		s.row("stored", "nothing")
		s.held(o.Held)
	}
	for i := range o.Variants {
		if i > 0 {
			s.printf("\n")
		}
		s.variant(&o.Variants[i], o.Redis == "asked")
	}
}

func (s *sheet) variant(v *admin.Variant, shared bool) {
	s.printf("%s\n", printable(v.URL))
	s.row("variant", "%s", printable(v.Variant))
	for _, w := range v.Key {
		s.more("if the request has %s", wantedText(strings.TrimSpace(w.Kind+" "+w.Name), &w))
	}
	for _, w := range v.Vary {
		s.more("if the request has %s (Vary)", wantedText(w.Name, &w))
	}
	s.keptIn("near", v.Near)
	if shared || v.Redis != nil {
		s.keptIn("redis", v.Redis)
	}
}

func wantedText(name string, w *admin.Wanted) string {
	if w.Absent {
		return "no " + printable(name)
	}
	return printable(fmt.Sprintf("%s: %s", name, strings.Join(w.Values, ", ")))
}

func (s *sheet) keptIn(tier string, k *admin.Kept) {
	if k == nil {
		s.row(tier, "not there")
		return
	}
	part := ""
	if k.Partial {
		part = ", a part"
	}
	s.row(tier, "%d, %s of body%s%s", k.Status, sizeText(k.Bytes), part, printable(after(", ", k.ContentType)))
	if k.Forbidden != "" {
		s.more("served to nobody: %s", map[string]string{
			"purge": "a purge forbids it", "epoch": "it belongs to a log of purges that has ended", "unnamed": "another fetch has taken its place",
		}[k.Forbidden])
	}
	s.more("%s", freshnessText(k))
	s.more("came %s, kept until %s%s", localTime(k.StoredAt), localTime(k.KeepUntil), sizeIn(k))
	if validators := strings.TrimPrefix(after(", ETag ", k.ETag)+after(", Last-Modified ", k.LastModified), ", "); validators != "" {
		s.more("%s", printable(validators))
	}
	if len(k.Tags) > 0 {
		s.more("tags: %s", printable(strings.Join(k.Tags, ", ")))
	}
	if len(k.Groups) > 0 {
		s.more("groups: %q", k.Groups)
	}
	s.more("fetched as of purge %v, valid as of %v%s", k.BodyAsOf, k.ValidAsOf, softText(k.StaleSince))
}

func softText(since invalidation.Seq) string {
	if since == 0 {
		return ""
	}
	return fmt.Sprintf(", made stale by purge %v", since)
}

// freshnessText is the age, what is left of the lifetime, and what may be done when it is over.
func freshnessText(k *admin.Kept) string {
	guessed := ""
	if k.Heuristic {
		guessed = ", a guess"
	}
	text := fmt.Sprintf("age %s of %s%s: ", k.Age, k.Lifetime, guessed)
	if k.TTL > 0 {
		text += fmt.Sprintf("fresh for %s more", k.TTL+proxy.Seconds(time.Second-1))
	} else {
		text += fmt.Sprintf("stale for %s", -k.TTL)
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"no-cache", k.NoCache}, {"must-revalidate", k.MustRevalidate}, {"immutable", k.Immutable}} {
		if flag.set {
			text += ", " + flag.name
		}
	}
	if k.StaleWhileRevalidate > 0 {
		text += ", stale-while-revalidate " + k.StaleWhileRevalidate.String()
	}
	if k.StaleIfError > 0 {
		text += ", stale-if-error " + k.StaleIfError.String()
	}
	return text
}

// sizeIn is what the tier holds of a response.
func sizeIn(k *admin.Kept) string {
	text := fmt.Sprintf(", takes %s", sizeText(k.Size))
	if k.Packed {
		text += ", compressed"
	}
	if k.Chunks > 0 {
		text += fmt.Sprintf(", its body in %s", quantity(int64(k.Chunks), "chunk"))
	}
	return text
}

func localTime(t time.Time) string { return t.Local().Format(time.DateTime) }
